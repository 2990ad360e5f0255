//! Following a build: what is shown of it, and what its stream tells besides.

use serde_json::{Value as Json, json};

use crate::commands::build::display::Look;
use crate::commands::build::findings::Finding;
use crate::commands::build::live::Live;
use crate::commands::build::outputs::BuildOutput;

use crate::commands::build::{BuildArgs, display, live};
use crate::error::Result;
use crate::progress::{self, Display, Message};
use crate::session::Session;

/// What a stream told besides its text.
#[derive(Default)]
pub(super) struct Followed {
    pub(super) image: Option<String>,
    pub(super) build: Option<String>,
    pub(super) findings: Vec<Finding>,
}

impl Followed {
    fn note(&mut self, aux: &Json) {
        self.findings.extend(Finding::read(aux));
        if let Some(id) = aux["ID"].as_str() {
            self.image = Some(id.to_owned());
        }
        if aux["event"] == "build"
            && let Some(id) = aux["id"].as_str()
        {
            self.build = Some(id.to_owned());
        }
    }
}

/// Shows a build while it goes, or only its failure, and notes what its stream tells besides.
pub(super) async fn follow(
    session: &mut Session,
    args: &BuildArgs,
    outputs: &[BuildOutput],
    look: Option<Look>,
    response: crate::http::Response,
    followed: &mut Followed,
) -> Result<()> {
    let followed = std::cell::RefCell::new(followed);
    // Where the result goes to standard output, nothing else does.
    let to_talk = outputs.iter().any(BuildOutput::is_on_stdout);
    let Some(look) = look else {
        let note = &mut |aux: &Json| followed.borrow_mut().note(aux);
        let id = quiet(session, response, note).await?;
        return match args.quiet {
            true if to_talk => {
                session.output.talk(&id);
                Ok(())
            }
            true => session.output.line(&id),
            false => Ok(()),
        };
    };
    let output = &mut session.output;
    let mut write = |text: &str| {
        if to_talk {
            output.talk_bytes(text.as_bytes())
        } else {
            output.text(text)
        }
    };
    match look {
        Look::Live { colour } => {
            let live = std::cell::RefCell::new(Live::new(colour));
            let write = std::cell::RefCell::new(write);
            let result = progress::read_ticking(
                response,
                live::TICK,
                |aux| {
                    followed.borrow_mut().note(aux);
                    let text = if aux["event"].is_string() {
                        live.borrow_mut().event(aux)
                    } else {
                        String::new()
                    };
                    (write.borrow_mut())(&text)
                },
                || {
                    let text = live.borrow_mut().redraw("");
                    (write.borrow_mut())(&text)
                },
            )
            .await;
            let text = live.borrow_mut().erase();
            (write.borrow_mut())(&text)?;
            result
        }
        Look::RawJson => {
            let write = std::cell::RefCell::new(write);
            progress::read_ticking(
                response,
                live::TICK,
                |aux| {
                    followed.borrow_mut().note(aux);
                    (write.borrow_mut())(&format!("{aux}\n"))
                },
                || Ok(()),
            )
            .await
        }
        Look::Lines { colour } => {
            let mut lines = Display::new(false);
            progress::read(
                response,
                |aux| followed.borrow_mut().note(aux),
                |message| {
                    let text = lines.text(message);
                    write(&if colour {
                        display::coloured(&text)
                    } else {
                        text
                    })
                },
            )
            .await
        }
    }
}

/// Returns the id; a failure is shown with all that led to it.
async fn quiet(
    session: &mut Session,
    response: crate::http::Response,
    note: &mut dyn FnMut(&Json),
) -> Result<String> {
    let mut told = String::new();
    let result = progress::read(
        response,
        |aux| note(aux),
        |message: &Message| {
            told.push_str(message.stream.as_deref().unwrap_or_default());
            Ok(())
        },
    )
    .await;
    match result {
        Ok(()) => {
            let last = told
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or_default();
            if let Some(id) = last.strip_prefix("sha256:") {
                note(&json!({"ID": format!("sha256:{id}")}));
            }
            Ok(last.to_owned())
        }
        Err(error) => {
            session.output.talk_bytes(told.as_bytes())?;
            Err(error)
        }
    }
}
