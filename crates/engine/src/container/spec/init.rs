//! A small init in front of the command of a container that an OCI runtime program makes (spec runtime §2.4).

use oci_spec::runtime::{Mount, Spec};
use std::path::{Path, PathBuf};

/// Where containers find it, as with docker.
const INIT_PATH: &str = "/sbin/docker-init";

/// Mounts `program` and lets it run the command.
pub(crate) fn add_init(spec: &mut Spec, program: &Path) {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(INIT_PATH))
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(program.to_owned()))
        .set_options(Some(["bind", "ro"].map(str::to_owned).to_vec()));
    spec.mounts_mut().get_or_insert_default().push(mount);
    if let Some(process) = spec.process_mut() {
        let command = process.args().clone().unwrap_or_default();
        let mut arguments = vec![INIT_PATH.to_owned(), "--".to_owned()];
        arguments.extend(command);
        process.set_args(Some(arguments));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_run_by_the_init() {
        let mut spec = Spec::default();
        let process = spec.process_mut().as_mut().unwrap();
        process.set_args(Some(vec!["sleep".to_owned(), "-1".to_owned()]));
        let mounts = spec.mounts().as_ref().unwrap().len();
        add_init(&mut spec, Path::new("/usr/bin/tini-static"));
        let process = spec.process().as_ref().unwrap();
        assert_eq!(
            process.args().as_deref().unwrap(),
            ["/sbin/docker-init", "--", "sleep", "-1"]
        );
        let added = &spec.mounts().as_ref().unwrap()[mounts..];
        assert_eq!(added.len(), 1);
        assert_eq!(added[0].destination(), Path::new("/sbin/docker-init"));
        assert_eq!(
            added[0].source().as_deref(),
            Some(Path::new("/usr/bin/tini-static"))
        );
    }
}
