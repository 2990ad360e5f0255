//! Copying files into and out of containers (spec engine-api §12).

use crate::body;
use crate::call::Call;
use crate::respond::{self, Answer, Failure};
use crate::timestamp::rfc3339_nano;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use wharf_engine::ArchivePut;
use wharf_engine::model::view::PathStat;

/// Header that describes the path.
const STAT_HEADER: &str = "x-docker-container-path-stat";

/// Returns the path parameter.
fn path_of(call: &Call) -> Result<&str, Failure> {
    match call.query.text("path") {
        "" => Err(Failure::bad_request("bad parameter: path cannot be empty")),
        path => Ok(path),
    }
}

/// `HEAD /containers/{name}/archive`
pub(crate) async fn stat(call: Call) -> Answer {
    let stat = call
        .engine
        .archive_stat(call.container(), path_of(&call)?)
        .await?;
    with_stat(respond::status(StatusCode::OK), &stat)
}

/// `GET /containers/{name}/archive`
pub(crate) async fn get(call: Call) -> Answer {
    let (stat, chunks) = call
        .engine
        .archive_get(call.container(), path_of(&call)?)
        .await?;
    with_stat(respond::stream(respond::TAR, chunks), &stat)
}

/// `PUT /containers/{name}/archive`
pub(crate) async fn put(mut call: Call) -> Answer {
    let options = ArchivePut {
        no_overwrite_dir_non_dir: call.query.switch("noOverwriteDirNonDir", false),
        copy_uid_gid: call.query.switch("copyUIDGID", false),
    };
    path_of(&call)?;
    let chunks = body::into_stream(call.body.take());
    let path = call.query.text("path");
    call.engine
        .archive_put(call.container(), path, options, chunks)
        .await?;
    Ok(respond::status(StatusCode::OK))
}

fn with_stat(mut response: Response<respond::Body>, stat: &PathStat) -> Answer {
    let document = json!({
        "name": stat.name,
        "size": stat.size_bytes,
        "mode": go_file_mode(stat.mode),
        "mtime": rfc3339_nano(stat.modified_at_ns),
        "linkTarget": stat.link_target,
    });
    let value = HeaderValue::from_str(&STANDARD.encode(document.to_string())).map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("encoding the path's stat: {error}"),
        )
    })?;
    response.headers_mut().insert(STAT_HEADER, value);
    Ok(response)
}

/// Converts Linux's `st_mode` to the bits of Go's `os.FileMode` (spec engine-api §3).
fn go_file_mode(mode: u32) -> u32 {
    const TYPE_MASK: u32 = 0o170_000;
    let kind = match mode & TYPE_MASK {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        0o020_000 => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let bits = special
        .iter()
        .filter(|(bit, _)| mode & bit != 0)
        .map(|(_, go)| go);
    bits.fold(kind | (mode & 0o777), |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (mode, expected) in [
            (0o100_644, 0o644),
            (0o040_755, 1 << 31 | 0o755),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
            (0o120_777, 1 << 27 | 0o777),
            (0o104_755, 1 << 23 | 0o755),
            (0o020_666, 1 << 26 | 1 << 21 | 0o666),
        ] {
            assert_eq!(go_file_mode(mode), expected, "{mode:o}");
        }
    }
}
