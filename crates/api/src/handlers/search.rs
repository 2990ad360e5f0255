//! Searching a registry (spec engine-api §5.3).

use crate::call::Call;
use crate::credentials;
use crate::filters;
use crate::respond::{self, Answer, Failure};
use serde_json::{Value, json};
use wharf_registry::Found;

/// `GET /images/search`
pub(crate) async fn search(call: Call) -> Answer {
    let filters = filters::from_query(&call.query)?;
    filters::accept(&filters, &["is-automated", "is-official", "stars"])?;
    let switch = |key: &str| -> Result<Option<bool>, Failure> {
        match filters.get(key).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([value]) if matches!(value.as_str(), "true" | "1") => Ok(Some(true)),
            Some([value]) if matches!(value.as_str(), "false" | "0") => Ok(Some(false)),
            Some(values) => Err(Failure::bad_request(format!(
                "invalid filter '{key}={values:?}'"
            ))),
        }
    };
    let (official, automated) = (switch("is-official")?, switch("is-automated")?);
    let mut least_stars = 0;
    for value in filters.get("stars").into_iter().flatten() {
        let stars: i64 = value
            .parse()
            .map_err(|_| Failure::bad_request(format!("invalid filter 'stars=[{value}]'")))?;
        least_stars = least_stars.max(stars);
    }
    let found = call
        .engine
        .search_images(
            call.query.text("term"),
            call.query.integer("limit")?,
            &credentials::of_call(&call),
        )
        .await?;
    let is_wanted = |one: &&Found| {
        official.is_none_or(|wanted| one.is_official == wanted)
            // Nothing is built automatically any more.
            && automated != Some(true)
            && one.star_count >= least_stars
    };
    let items: Vec<Value> = found.iter().filter(is_wanted).map(item).collect();
    respond::json(&items)
}

fn item(found: &Found) -> Value {
    json!({
        "star_count": found.star_count,
        "is_official": found.is_official,
        "name": found.name,
        "is_automated": false,
        "description": found.description,
    })
}
