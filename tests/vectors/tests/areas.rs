//! Every area: the project's own vectors, and more where they are at hand. Those that a daemon answers are
//! run among the system tests.

use wharf_vectors::{areas, assert_area, own_directory, public_directory};

macro_rules! areas {
    ($($test:ident $area:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            if areas::runner($area).is_some() {
                assert_area(&own_directory(), $area);
                assert_area(&public_directory(), $area);
            }
        })+

        #[test]
        fn every_area_is_run() {
            for (area, _) in areas::AREAS {
                assert!([$($area),+, "api-status", "container-create"].contains(area), "{area} has no test");
            }
        }
    };
}

areas! {
    chain_id "chain-id",
    cli_format "cli-format",
    cli_opts "cli-opts",
    container_state "container-state",
    daemon_misc "daemon-misc",
    dockerfile_instructions "dockerfile-instructions",
    dockerfile_lint "dockerfile-lint",
    dockerfile_outline "dockerfile-outline",
    dockerfile_parse "dockerfile-parse",
    dockerfile_plan "dockerfile-plan",
    dockerignore "dockerignore",
    env_file "env-file",
    etc_hosts "etc-hosts",
    git_url "giturl",
    layer_apply "layer-apply",
    layer_diff "layer-diff",
    log_tag "log-tag",
    mount_parse "mount-parse",
    platforms "platforms",
    port_specs "port-specs",
    references "references",
    resolv_conf "resolv-conf",
    seccomp "seccomp",
    shell_words "shell-words",
    stdcopy "stdcopy",
    units "units",
}
