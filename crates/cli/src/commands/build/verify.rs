//! `wharf build --verify`: the same build twice, and the first file that is not the same.

use std::io::Read;

use crate::commands::build::outputs::BuildOutput;
use crate::commands::build::{BuildArgs, Built, Failed, Taking, build, release, unnamed};
use crate::commands::container::copy_archive::pipe::pipe;
use crate::error::{CliError, Result};
use crate::http::{Request, path_part};
use crate::session::Session;

/// Bytes that are compared at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Builds twice without the cache and compares.
pub async fn verify(session: &mut Session, mut args: BuildArgs) -> Result<()> {
    args.no_cache = true;
    let names = std::mem::take(&mut args.tag);
    let wanted: Vec<BuildOutput> = Vec::new();
    let once = async |session: &mut Session, drops_image: bool| {
        let taking = Taking {
            takes_out: true,
            drops_image,
        };
        let built = build(session, &args, &wanted, taking).await;
        built.map_err(|Failed { error, .. }| error)
    };
    let first = once(session, false).await?;
    let second = once(session, true).await;
    let verified = match &second {
        Ok(second) => compare_images(session, &first, second, &names).await,
        Err(_) => Ok(()),
    };
    for built in [Some(&first), second.as_ref().ok()].into_iter().flatten() {
        release(session, built.build.as_deref()).await?;
    }
    second.map(drop).and(verified)
}

async fn compare_images(
    session: &mut Session,
    first: &Built,
    second: &Built,
    names: &[String],
) -> Result<()> {
    let image = |built: &Built| built.image.clone().ok_or_else(unnamed);
    let (first, second) = (image(first)?, image(second)?);
    if first == second {
        session.output.line(&format!("both builds gave {first}"))?;
        for name in names {
            tag(session, &first, name).await?;
        }
        return Ok(());
    }
    let what = match compare(session, &first, &second).await? {
        Some(what) => what,
        None => {
            "the files are the same: times of files or of the image differ (set SOURCE_DATE_EPOCH)"
                .to_owned()
        }
    };
    Err(CliError::usage(format!(
        "the builds differ: {first} and {second}: {what}"
    )))
}

async fn tag(session: &mut Session, image: &str, name: &str) -> Result<()> {
    let (repository, tag) = crate::commands::image::names::repository_and_tag(name)?;
    let request = Request::post(format!("/images/{}/tag", path_part(image)))
        .query("repo", repository)
        .query("tag", tag);
    session.client.send(request).await.map(drop)
}

async fn compare(session: &mut Session, first: &str, second: &str) -> Result<Option<String>> {
    let mut readers = Vec::new();
    let mut pumps = Vec::new();
    for image in [first, second] {
        let request = Request::get(format!("/wharf/images/{}/files", path_part(image)));
        let mut response = session.client.send(request).await?;
        let (sender, reader) = pipe();
        pumps.push(tokio::spawn(async move {
            while let Some(chunk) = response.chunk().await? {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok::<(), CliError>(())
        }));
        readers.push(reader);
    }
    let (Some(second), Some(first)) = (readers.pop(), readers.pop()) else {
        return Ok(None);
    };
    let compared = tokio::task::spawn_blocking(move || first_difference(first, second)).await;
    compared
        .map_err(|error| CliError::transport("comparing the images", error))?
        .map_err(|error| CliError::io("comparing the images", error))
}

/// Returns what is different first between two archives; nothing where only times are.
pub fn first_difference<R: Read>(first: R, second: R) -> std::io::Result<Option<String>> {
    let (mut first, mut second) = (tar::Archive::new(first), tar::Archive::new(second));
    let (mut left, mut right) = (first.entries()?, second.entries()?);
    let mut only_times = None;
    loop {
        let (left, right) = match (left.next().transpose()?, right.next().transpose()?) {
            (None, None) => return Ok(only_times),
            (Some(only), None) | (None, Some(only)) => {
                return Ok(Some(format!("{} is in one of them only", name_of(&only))));
            }
            (Some(left), Some(right)) => (left, right),
        };
        let (left_name, right_name) = (name_of(&left), name_of(&right));
        if left_name != right_name {
            let first = left_name.min(right_name);
            return Ok(Some(format!("{first} is in one of them only")));
        }
        if let Some(what) = attributes_differ(&left, &right)? {
            return Ok(Some(format!("{left_name} differs in its {what}")));
        }
        let differs_in_time = left.header().mtime()? != right.header().mtime()?;
        if content_differs(left, right)? {
            return Ok(Some(format!("{left_name} differs in its content")));
        }
        if differs_in_time && only_times.is_none() {
            only_times = Some(format!("{left_name} differs in its time"));
        }
    }
}

fn name_of(entry: &tar::Entry<'_, impl Read>) -> String {
    format!("/{}", String::from_utf8_lossy(&entry.path_bytes()))
}

fn attributes_differ(
    left: &tar::Entry<'_, impl Read>,
    right: &tar::Entry<'_, impl Read>,
) -> std::io::Result<Option<&'static str>> {
    let (one, other) = (left.header(), right.header());
    Ok(if one.entry_type() != other.entry_type() {
        Some("kind")
    } else if one.mode()? != other.mode()? {
        Some("mode")
    } else if (one.uid()?, one.gid()?) != (other.uid()?, other.gid()?) {
        Some("owner")
    } else if left.link_name_bytes() != right.link_name_bytes() {
        Some("target")
    } else {
        None
    })
}

fn content_differs(mut left: impl Read, mut right: impl Read) -> std::io::Result<bool> {
    let (mut one, mut other) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let (count, other_count) = (fill(&mut left, &mut one)?, fill(&mut right, &mut other)?);
        if one.get(..count) != other.get(..other_count) {
            return Ok(true);
        }
        if count == 0 {
            return Ok(false);
        }
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    fn archive(entries: &[(&str, &str, u32, u64)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content, mode, mtime) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(*mtime);
            header.set_uid(0);
            header.set_gid(0);
            builder
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn differences() {
        let base = [("a", "1", 0o644, 5), ("b", "2", 0o644, 5)];
        let told = |other: &[(&str, &str, u32, u64)]| {
            first_difference(archive(&base).as_slice(), archive(other).as_slice()).unwrap()
        };
        assert_eq!(told(&base), None);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told(&[("a", "1", 0o644, 6), base[1]]),
            some("/a differs in its time")
        );
        assert_eq!(
            told(&[("a", "1", 0o644, 6), ("b", "3", 0o644, 5)]),
            some("/b differs in its content")
        );
        assert_eq!(
            told(&[("a", "1", 0o755, 5), base[1]]),
            some("/a differs in its mode")
        );
        assert_eq!(told(&base[..1]), some("/b is in one of them only"));
        assert_eq!(
            told(&[base[0], ("c", "", 0, 0)]),
            some("/b is in one of them only")
        );
    }
}
