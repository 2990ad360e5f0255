//! The Dockerfile of a request: read, and lowered to a plan.

use wharf_dockerfile::{Diagnostic, Dockerfile, load};
use wharf_image::Platform;
use wharf_store::Store;

use crate::context::DockerfileText;
use crate::lower::{FindBase, FindTime, LowerInput, TimeSource, git_source, lower, other_mistakes};
use crate::plan::Plan;
use crate::solve::{Means, commit_seconds};
use crate::{BuildError, BuildRequest, ContextSource, FetchRequest, Host};

/// Reads the Dockerfile; tells what its text alone shows to be wrong.
pub(crate) fn read(file: &DockerfileText) -> Result<Dockerfile, BuildError> {
    read_with(file, |_| Vec::new())
}

/// Reads the Dockerfile to lower it: with mistakes in its text those are told, too, that lowering finds in the rest. For
/// that only images that are here are looked at.
pub(crate) fn read_whole(
    host: &dyn Host,
    request: &BuildRequest,
    file: &DockerfileText,
) -> Result<Dockerfile, BuildError> {
    read_with(file, |dockerfile| {
        let mut find_base = |name: &str, platform: &Platform| {
            let found = host.local_image(name, platform);
            found.ok_or_else(|| BuildError::Host(format!("{name} is not here").into()))
        };
        let find_time = |_: &TimeSource| Ok(None);
        with_input(request, file, dockerfile, &find_time, |input| {
            let input = LowerInput {
                is_partial: true,
                ..input
            };
            other_mistakes(&input, &mut find_base)
        })
    })
}

/// Lowers the Dockerfile of a request.
pub(crate) fn lower_request(
    request: &BuildRequest,
    file: &DockerfileText,
    dockerfile: &Dockerfile,
    (find_base, find_time): (&mut FindBase<'_>, &FindTime<'_>),
) -> Result<Plan, BuildError> {
    with_input(request, file, dockerfile, find_time, |input| {
        lower(&input, find_base)
    })
}

/// Finds the time that `SOURCE_DATE_EPOCH` names, in seconds since 1970.
pub(crate) fn find_time(
    store: &Store,
    host: &dyn Host,
    request: &BuildRequest,
    source: &TimeSource,
) -> Result<Option<i64>, BuildError> {
    let source = match (source, &request.context) {
        (TimeSource::Source(source), _) => source.clone(),
        (TimeSource::MainContext, ContextSource::Git(address)) => {
            let url = wharf_dockerfile::parse_git_url(address)
                .map_err(|error| BuildError::instruction(error.to_string()))?;
            git_source(&url, None, None)
        }
        // Files have times, a directory as a whole has none that anybody could rely on.
        (TimeSource::MainContext, _) => return Ok(None),
    };
    if source.identifier.starts_with("git://") {
        return commit_seconds(store, &source, &Means::of_request(request)).map(Some);
    }
    let asked = FetchRequest {
        url: source.identifier.clone(),
        ..FetchRequest::default()
    };
    let fetched = host.fetch(&asked).map_err(BuildError::Host)?;
    match fetched.last_modified {
        Some(time) => Ok(Some(time.seconds)),
        None => Err(BuildError::instruction(format!(
            "SOURCE_DATE_EPOCH: the server does not say when {} last changed",
            source.identifier
        ))),
    }
}

fn read_with(
    file: &DockerfileText,
    others: impl FnOnce(&Dockerfile) -> Vec<Diagnostic>,
) -> Result<Dockerfile, BuildError> {
    let (dockerfile, mut errors) = load(&file.text);
    errors.retain(Diagnostic::is_error);
    if errors.is_empty() {
        return Ok(dockerfile);
    }
    errors.extend(others(&dockerfile));
    Err(BuildError::dockerfile(&file.name, &file.text, errors))
}

/// Calls a function with what lowering a request's Dockerfile depends on.
fn with_input<T>(
    request: &BuildRequest,
    file: &DockerfileText,
    dockerfile: &Dockerfile,
    find_time: &FindTime<'_>,
    call: impl FnOnce(LowerInput<'_>) -> T,
) -> T {
    let build_platform = Platform::host();
    call(LowerInput {
        dockerfile,
        file_name: &file.name,
        source: &file.text,
        build_args: &request.build_args,
        labels: &request.labels,
        target: &request.target,
        platform: request
            .platform
            .clone()
            .unwrap_or_else(|| build_platform.clone()),
        build_platform,
        contexts: &request.named_contexts(),
        no_cache_stages: &request.no_cache_stages,
        allow_insecure: request.allow_insecure,
        network_mode: &request.network_mode,
        find_time,
        is_partial: false,
    })
}
