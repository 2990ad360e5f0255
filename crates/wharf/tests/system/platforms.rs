//! Programs of another platform: with an emulator that the kernel knows of, steps and containers of it run.

use crate::harness::{base_image_tar, program, skip};
use std::path::PathBuf;
use std::process::Command;

/// Runs beside a daemon in a mount namespace of its own; the kernel's list of emulators is the machine's, so that who
/// changes it holds a lock and takes its entry away again. The script has the directory, the program, a tar of busybox,
/// busybox of arm64 and its emulator.
const SCRIPT: &str = r#"
set -eu
cd "$1"
wharf=$2 handlers=/proc/sys/fs/binfmt_misc
exec 9</var/tmp
flock 9
mount -t binfmt_misc none $handlers
export DOCKER_HOST=unix://$1/s
"$wharf" daemon --socket "$1/s" --root "$1/root" --run-dir "$1/run" >log 2>&1 &
daemon=$!
entry=
trap 'kill $daemon; wait $daemon || cat log >&2; [ -z "$entry" ] || echo -1 >$entry' EXIT
for i in $(seq 200); do [ -S s ] && break; sleep 0.05; done
"$wharf" import "$3" busybox >/dev/null
mkdir context
cp "$4" context/busybox
cat >context/Dockerfile <<'DOCKERFILE'
FROM --platform=$BUILDPLATFORM busybox AS own
RUN echo "own $(uname -m)" > /own
FROM scratch
ARG TARGETPLATFORM
COPY busybox /bin/busybox
COPY --from=own /own /own
RUN ["/bin/busybox", "sh", "-c", "echo target $TARGETPLATFORM $(/bin/busybox uname -m) > /target"]
CMD ["/bin/busybox", "cat", "/own", "/target"]
DOCKERFILE
if [ ! -e $handlers/qemu-aarch64 ]; then
    echo "without an emulator:"
    if "$wharf" build --platform linux/arm64 -t foreign context >out 2>&1; then cat out >&2; exit 1; fi
    cat out
    entry=$handlers/qemu-aarch64
    # The head of a program of arm64, and which of its bytes count; F: the emulator is opened now, for all roots.
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    echo ":qemu-aarch64:M::$magic:$mask:$5:F" >$handlers/register
fi
echo "with an emulator:"
"$wharf" build --platform linux/arm64 -t foreign context >out 2>&1 || { cat out >&2; exit 1; }
"$wharf" inspect --format '{{.Os}}/{{.Architecture}}' foreign
"$wharf" run --rm --network none foreign
"#;

/// Returns what a variable names, or says what is not tested without it.
fn named(variable: &str, what: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        skip(&format!(
            "{what} is not at hand (set {variable} to its path)"
        ));
    }
    path
}

#[test]
fn steps_run_under_an_emulator_that_is_registered() {
    if rustix::system::uname().machine().to_bytes() != b"x86_64" {
        skip("emulation of arm64 is tested on x86_64 only");
        return;
    }
    let busybox = named("WHARF_TEST_BUSYBOX_ARM64", "busybox of arm64");
    let emulator = named("WHARF_TEST_EMULATOR_ARM64", "an emulator of arm64");
    let (Some(busybox), Some(emulator)) = (busybox, emulator) else {
        return;
    };
    let directory = tempfile::Builder::new()
        .prefix("wharf-platforms-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let output = Command::new("unshare")
        .args([
            "-m",
            "--propagation",
            "private",
            "bash",
            "-c",
            SCRIPT,
            "test",
        ])
        .arg(directory.path())
        .arg(program())
        .arg(base_image_tar("busybox"))
        .args([busybox, emulator])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    if let Some(refused) = told.strip_prefix("without an emulator:\n") {
        let refused = refused.split("with an emulator:").next().unwrap();
        assert!(
            refused.contains("programs of linux/arm64 cannot be run on this"),
            "{refused}"
        );
        assert!(!refused.contains("Running in"), "{refused}");
    }
    assert!(
        told.ends_with("linux/arm64\nown x86_64\ntarget linux/arm64 aarch64\n"),
        "{told}"
    );
}
