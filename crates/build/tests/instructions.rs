//! What each instruction does to the image.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod support;

use support::{Bench, can_mount, history, map};
use wharf_build::BuildRequest;

#[test]
fn config_instructions() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (image, log) = bench.build(
        "FROM base\nENV A=1 B=$BASE\nLABEL l=\"x y\"\nEXPOSE 80 53/udp\nVOLUME /v\nUSER app\nSTOPSIGNAL SIGINT\nMAINTAINER me\n\
         HEALTHCHECK --interval=5s CMD true\nSHELL [\"/bin/bash\", \"-c\"]\nCMD echo $A\nENTRYPOINT [\"/e\"]\nONBUILD RUN x\n",
    );
    let config = image.config.clone().unwrap();
    assert_eq!(config.env, ["PATH=/bin", "BASE=1", "A=1", "B=1"]);
    assert_eq!(config.labels["l"], "x y");
    assert_eq!(config.exposed_ports.len(), 2);
    assert_eq!(config.user, "app");
    assert_eq!(config.stop_signal, "SIGINT");
    assert_eq!(config.cmd.unwrap(), ["/bin/bash", "-c", "echo $A"]);
    assert_eq!(config.entrypoint.unwrap(), ["/e"]);
    assert_eq!(config.on_build, ["RUN x"]);
    assert_eq!(config.healthcheck.unwrap().interval, 5_000_000_000);
    assert_eq!(image.author.as_deref(), Some("me"));
    assert_eq!(image.rootfs.diff_ids.len(), 1);
    let entries = history(&image);
    assert_eq!(entries[1], "ENV A=1 B=1 (empty)");
    assert_eq!(entries.len(), 12);
    assert!(image.history.iter().all(|entry| entry.created.is_some()));
    assert!(
        log.lines
            .iter()
            .any(|line| line.starts_with("warning Maintainer"))
    );
    assert_eq!(log.lines.first().unwrap(), "1/13 FROM base");
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn entrypoint_takes_away_the_command_of_the_base() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (image, _) = bench.build("FROM base\nENTRYPOINT [\"/e\"]\n");
    assert_eq!(image.config.unwrap().cmd, None);
    let (image, _) = bench.build("FROM base\nCMD [\"c\"]\nENTRYPOINT [\"/e\"]\n");
    assert_eq!(image.config.unwrap().cmd.unwrap(), ["c"]);
}

#[test]
fn run_in_shell_exec_and_heredoc_form() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (image, log) = bench.build(
        "FROM base\nARG WHO=you\nENV X=1\nWORKDIR /w\nRUN write a $X && say hi && warn oops\nRUN [\"write\", \"b\", \"$X\"]\n\
         RUN <<EOF\nwrite c 1\nwrite d 2\nEOF\nUSER app\nRUN env WHO /who && whoami /user\n",
    );
    assert_eq!(
        bench.tree(&image, "w"),
        [
            "w/a 644 0:0 $X",
            "w/b 644 0:0 $X",
            "w/c 644 0:0 1",
            "w/d 644 0:0 2"
        ]
    );
    assert_eq!(bench.text(&image, "who").unwrap(), "you");
    assert_eq!(bench.text(&image, "user").unwrap(), "app");
    assert!(log.lines.contains(&"Stdout hi\n".to_owned()));
    assert!(log.lines.contains(&"Stderr oops\n".to_owned()));
    let entries = history(&image);
    assert_eq!(
        entries[4],
        "RUN |1 WHO=you /bin/sh -c write a $X && say hi && warn oops # buildkit"
    );
    assert_eq!(entries[5], "RUN |1 WHO=you write b $X # buildkit");
    assert_eq!(image.rootfs.diff_ids.len(), 1 + 5);
    assert_eq!(bench.leftovers(), 0);
}

#[test]
fn steps_without_a_change_add_no_layer() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (image, _) = bench.build("FROM base\nRUN nothing\nWORKDIR /lib\nRUN rm /absent\n");
    assert_eq!(image.rootfs.diff_ids.len(), 1);
    assert_eq!(
        history(&image)[1..],
        [
            "RUN /bin/sh -c nothing # buildkit (empty)",
            "WORKDIR /lib (empty)",
            "RUN /bin/sh -c rm /absent # buildkit (empty)"
        ]
    );
    assert_eq!(image.config.unwrap().working_dir, "/lib");
}

#[test]
fn run_removes_files_of_the_base() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (image, _) = bench.build("FROM base\nRUN rm /lib/old\nRUN write /lib/new 1\n");
    assert_eq!(bench.tree(&image, "lib"), ["lib/new 644 0:0 1"]);
}

#[test]
fn scratch_takes_files_and_runs() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    bench.file("bin", "x");
    let (image, log) = bench.build("FROM scratch\nCOPY bin /a/bin\nWORKDIR /w\nRUN write f 1\n");
    assert_eq!(
        bench.tree(&image, ""),
        [
            "a 755 0:0 /",
            "a/bin 644 0:0 x",
            "w 755 0:0 /",
            "w/f 644 0:0 1"
        ]
    );
    assert_eq!(image.rootfs.diff_ids.len(), 3);
    assert_eq!(log.lines[1], "2/4 COPY bin /a/bin");
    let (image, _) = bench.build("FROM scratch\nRUN write f 1\n");
    assert_eq!(bench.tree(&image, ""), ["f 644 0:0 1"]);
}

#[test]
fn workdir_belongs_to_the_user() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (image, _) = bench.build("FROM base\nUSER app\nWORKDIR /home/app\nWORKDIR sub\n");
    assert_eq!(
        bench.tree(&image, "home"),
        ["home/app 755 10:20 /", "home/app/sub 755 10:20 /"]
    );
    assert_eq!(image.config.unwrap().working_dir, "/home/app/sub");
}

#[test]
fn arguments_and_their_scopes() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let text = "ARG IMAGE=none\nARG G=global\nFROM $IMAGE\nARG G\nARG D=default\nARG U\nARG TARGETARCH\n\
                RUN env G /g && env D /d && env U /u && env HTTP_PROXY /p && env TARGETARCH /t\n";
    let request = BuildRequest {
        build_args: map(&[
            ("IMAGE", Some("base".to_owned())),
            ("D", Some("given".to_owned())),
            ("HTTP_PROXY", Some("http://p".to_owned())),
            ("TYPO", Some("1".to_owned())),
            ("NOVALUE", None),
        ]),
        ..bench.request(text)
    };
    let (image, log) = bench.build_request(&request);
    assert_eq!(bench.text(&image, "g").unwrap(), "global");
    assert_eq!(bench.text(&image, "d").unwrap(), "given");
    assert_eq!(bench.text(&image, "u").unwrap(), "<unset>");
    assert_eq!(bench.text(&image, "p").unwrap(), "http://p");
    assert_ne!(bench.text(&image, "t").unwrap(), "<unset>");
    assert_eq!(
        log.lines[0],
        "WARNING One or more build-args [TYPO] were not consumed"
    );
    assert_eq!(log.lines[1], "1/8 ARG IMAGE=none");
    assert!(
        image
            .config
            .unwrap()
            .env
            .iter()
            .all(|entry| !entry.starts_with("D="))
    );
}

#[test]
fn onbuild_triggers_run_first() {
    if !can_mount() {
        return;
    }
    let mut bench = Bench::new();
    bench.file("src.txt", "s");
    let (image, _) = bench.build("FROM base\nONBUILD COPY src.txt /src/\nONBUILD RUN write /t 1\n");
    let parent = image.config.unwrap();
    bench.add_image("parent", parent, &[("p", "p")]);
    let (image, log) = bench.build("FROM parent\nRUN write /own 1\n");
    assert_eq!(
        bench.tree(&image, ""),
        [
            "own 644 0:0 1",
            "p 644 0:0 p",
            "src 755 0:0 /",
            "src/src.txt 644 0:0 s",
            "t 644 0:0 1"
        ]
    );
    assert!(image.config.unwrap().on_build.is_empty());
    assert_eq!(
        log.lines[..4],
        ["1/2 FROM parent", "done", "triggers 2", "done"]
    );
}

#[test]
fn stages() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let text = "FROM base AS one\nRUN write /one 1\nFROM base AS unused\nRUN fail 9\nFROM one AS two\nRUN write /two 2\n\
                FROM scratch\nCOPY --from=one /one /a/\nCOPY --from=2 /two /b\nCOPY --from=base /lib /lib\n";
    let (image, log) = bench.build(text);
    assert_eq!(
        bench.tree(&image, ""),
        [
            "a 755 0:0 /",
            "a/one 644 0:0 1",
            "b 644 0:0 2",
            "lib 755 0:0 /",
            "lib/old 644 0:0 old"
        ]
    );
    assert_eq!(log.lines.iter().filter(|line| *line == "stage").count(), 3);
    assert!(!log.lines.iter().any(|line| line.contains("unused")));
    let request = BuildRequest {
        target: "one".to_owned(),
        ..bench.request(text)
    };
    let (image, log) = bench.build_request(&request);
    assert_eq!(image.rootfs.diff_ids.len(), 2);
    assert_eq!(log.lines[0], "1/2 FROM base AS one");
    let request = BuildRequest {
        target: "tow".to_owned(),
        ..bench.request(text)
    };
    let (error, _) = bench.try_build(&request);
    assert_eq!(
        error.unwrap_err().to_string(),
        "target stage \"tow\" could not be found (did you mean two?)"
    );
}

#[test]
fn labels_of_the_request() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let request = BuildRequest {
        labels: map(&[("b", "2".to_owned()), ("a", "1".to_owned())]),
        ..bench.request("FROM base\n")
    };
    let (image, log) = bench.build_request(&request);
    assert_eq!(
        image.config.unwrap().labels,
        map(&[("a", "1".to_owned()), ("b", "2".to_owned())])
    );
    assert_eq!(log.lines[2], "2/2 LABEL a=1 b=2");
    assert_eq!(image.history.len(), 1);
}

#[test]
fn a_lone_from_is_its_image() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (built, _) = bench.try_build(&bench.request("FROM base\n"));
    assert_eq!(built.unwrap(), bench.host.images["base"].id);
}

#[test]
fn the_image_knows_what_it_was_built_on() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let (built, _) = bench.try_build(&bench.request("FROM base AS a\nENV X=1\nFROM a\nENV Y=1\n"));
    let image = bench.store.image(&built.unwrap()).unwrap().unwrap();
    assert_eq!(image.parent, Some(bench.host.images["base"].id));
    assert!(image.built_here);
}

#[test]
fn the_epoch_is_the_time_of_all_that_is_new() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let epoch = map(&[("SOURCE_DATE_EPOCH", Some("1700000000".to_owned()))]);
    let request = BuildRequest {
        build_args: epoch,
        ..bench.request("FROM base\nENV A=1\n")
    };
    let (image, _) = bench.build_request(&request);
    assert_eq!(image.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(
        image.history[0].created.as_deref(),
        Some("2024-01-01T00:00:00Z")
    );
}

#[test]
fn networks() {
    if !can_mount() {
        return;
    }
    let bench = Bench::new();
    let request = BuildRequest {
        network_mode: "host".to_owned(),
        ..bench.request("FROM base\nRUN nothing\nRUN --network=none nothing\n")
    };
    bench.build_request(&request);
    assert_eq!(*bench.host.networks.lock().unwrap(), ["host", "none"]);
    // A step that ran without a network is not one that ran with the usual one.
    for network in ["none", "host", "none"] {
        let mut request = bench.request("FROM base\nRUN write /f 1\n");
        request.network_mode = network.to_owned();
        bench.build_request(&request);
    }
    let networks = bench.host.networks.lock().unwrap();
    assert_eq!(networks[2..], ["none", "host"]);
}
