//! Images on their way in and out: pull, push, import, save, load (spec engine-api §5.3).

use super::image::name_of;
use crate::body;
use crate::call::Call;
use crate::credentials;
use crate::json_lines::{self, EarlyErrors, Failed};
use crate::limits::MAX_SAVE_NAMES;
use crate::respond::{self, Answer, Failure};
use wharf_engine::model::request::{Import, Pull};

/// `POST /images/create`: pulls, or imports a root file system.
pub(crate) async fn create(call: Call) -> Answer {
    match (call.query.text("fromImage"), call.query.text("fromSrc")) {
        ("", "") => Err(Failure::bad_request(
            "one of the parameters fromImage and fromSrc is needed",
        )),
        ("", _) => import(call).await,
        _ => pull(call).await,
    }
}

async fn pull(call: Call) -> Answer {
    let request = Pull {
        from_image: call
            .query
            .text("fromImage")
            .trim_end_matches(':')
            .to_owned(),
        tag: call.query.text("tag").to_owned(),
        platform: super::platform_text(&call.query)?,
        credentials: credentials::of_call(&call),
    };
    let engine = call.engine;
    json_lines::run(EarlyErrors::ByStatus, |progress| async move {
        engine.pull_image(request, progress).await?;
        Ok(())
    })
    .await
}

async fn import(mut call: Call) -> Answer {
    let query = &call.query;
    let request = Import {
        source: query.text("fromSrc").to_owned(),
        repository: query.text("repo").to_owned(),
        tag: query.text("tag").to_owned(),
        message: query.text("message").to_owned(),
        changes: query.all("changes"),
        platform: super::platform_text(query)?,
    };
    let chunks = body::into_stream(call.body.take());
    let engine = call.engine;
    json_lines::run(EarlyErrors::ByStatus, |progress| async move {
        // The engine tells the new image's ID as the last status.
        engine.import_image(request, chunks, progress).await?;
        Ok(())
    })
    .await
}

/// `POST /images/{name}/push`
pub(crate) async fn push(call: Call) -> Answer {
    let name = name_of(&call)?.to_owned();
    let tag = Some(call.query.text("tag").to_owned()).filter(|tag| !tag.is_empty());
    let pushed = tag
        .iter()
        .fold(name.clone(), |name, tag| format!("{name}:{tag}"));
    super::require_platforms(&call, &pushed, "platform").await?;
    let credentials = credentials::of_call(&call);
    let engine = call.engine;
    json_lines::run(EarlyErrors::InBandUnlessInvalid, |progress| async move {
        engine
            .push_image(&name, tag.as_deref(), credentials, progress)
            .await?;
        Ok(())
    })
    .await
}

/// `GET /images/{name}/get`
pub(crate) async fn save_one(call: Call) -> Answer {
    let names = vec![name_of(&call)?.to_owned()];
    save(call, names).await
}

/// `GET /images/get`
pub(crate) async fn save_many(call: Call) -> Answer {
    let names = call.query.all("names");
    if names.is_empty() || names.len() > MAX_SAVE_NAMES {
        return Err(Failure::bad_request(format!(
            "between 1 and {MAX_SAVE_NAMES} parameters \"names\" are needed, found {}",
            names.len()
        )));
    }
    save(call, names).await
}

async fn save(call: Call, names: Vec<String>) -> Answer {
    for name in &names {
        super::require_platforms(&call, name, "platform").await?;
    }
    let chunks = call.engine.save_images(&names).await?;
    Ok(respond::stream(respond::TAR, chunks))
}

/// `POST /images/load`
pub(crate) async fn load(mut call: Call) -> Answer {
    let platform = super::chosen_platforms(&call.query, "platform")?.pop();
    let quiet = call.query.switch("quiet", true);
    let chunks = body::into_stream(call.body.take());
    let engine = call.engine;
    json_lines::run(EarlyErrors::InBand, |progress| async move {
        engine
            .load_images(chunks, quiet, platform, progress)
            .await
            .map_err(Failed::from)?;
        Ok(())
    })
    .await
}
