//! Images: listing, naming, removing (spec engine-api §5.3, image-store §8, §14, §15).

use crate::call::Call;
use crate::filters;
use crate::respond::{self, Answer, Failure};
use crate::wire::image::{HistoryItem, ImageInspect, ImageItem, ImagesPruned, RemovedItem};
use http::StatusCode;
use wharf_engine::model::request::ListImages;

/// Returns the path's image name.
pub(super) fn name_of(call: &Call) -> Result<&str, Failure> {
    match call.name.as_str() {
        "" => Err(Failure::bad_request("image name cannot be blank")),
        name => Ok(name),
    }
}

/// `GET /images/json`
pub(crate) async fn list(call: Call) -> Answer {
    let request = ListImages {
        all: call.query.switch("all", false),
        filters: filters::from_query(&call.query)?,
        shared_size: call.query.switch("shared-size", false),
    };
    let images = call.engine.list_images(&request).await?;
    let items: Vec<_> = images
        .iter()
        .map(|image| ImageItem::new(image, &call.version))
        .collect();
    respond::json(&items)
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(call: Call) -> Answer {
    super::require_platforms(&call, name_of(&call)?, "platform").await?;
    let image = call.engine.image(name_of(&call)?).await?;
    respond::json(&ImageInspect::new(&image, &call.version))
}

/// `GET /images/{name}/history`
pub(crate) async fn history(call: Call) -> Answer {
    super::require_platforms(&call, name_of(&call)?, "platform").await?;
    let lines = call.engine.image_history(name_of(&call)?).await?;
    let items: Vec<HistoryItem> = lines.into_iter().map(HistoryItem::from).collect();
    respond::json(&items)
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(call: Call) -> Answer {
    let query = &call.query;
    call.engine
        .tag_image(name_of(&call)?, query.text("repo"), query.text("tag"))
        .await?;
    Ok(respond::status(StatusCode::CREATED))
}

/// `DELETE /images/{name}`
pub(crate) async fn remove(call: Call) -> Answer {
    super::require_platforms(&call, name_of(&call)?, "platforms").await?;
    let (force, no_prune) = (
        call.query.switch("force", false),
        call.query.switch("noprune", false),
    );
    let removed = call
        .engine
        .remove_image(name_of(&call)?, force, no_prune)
        .await?;
    let items: Vec<RemovedItem> = removed.into_iter().map(RemovedItem::from).collect();
    respond::json(&items)
}

/// `POST /images/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let pruned = call
        .engine
        .prune_images(&filters::from_query(&call.query)?)
        .await?;
    respond::json(&ImagesPruned::from(pruned))
}
