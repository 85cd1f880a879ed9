//! What is said of an agent's life in its own log.

use par_lifecycle::{Note, What};
use par_model::log::Level;

/// `None`: the log has it already, or nobody needs it there.
pub(crate) fn line(note: &Note) -> Option<(Level, String)> {
    let release = note.release.0;
    let said = match &note.what {
        What::Failed(cause) => (Level::Error, format!("failed to start: {cause}")),
        What::Crashed(cause) => (Level::Error, format!("crashed for good: {cause}")),
        What::Exited(cause) => match cause {
            par_model::control::EndCause::Exit { code: 0 } => {
                (Level::Info, format!("stopped by itself: {cause}"))
            }
            _ => (Level::Error, format!("ended: {cause}")),
        },
        What::Restarting { after } if after.is_zero() => {
            (Level::Info, "it is started again".to_owned())
        }
        What::Restarting { after } => (Level::Warning, format!("it is started again in {after:?}")),
        What::Slept => (Level::Info, "stopped: nobody called it".to_owned()),
        What::Waking => (Level::Info, "started: somebody calls it".to_owned()),
        What::Adopted => (
            Level::Info,
            "went on while the supervisor was gone".to_owned(),
        ),
        What::ReleaseFailed(cause) => (
            Level::Error,
            format!("release {release} does not take its place: {cause}"),
        ),
        What::ReleaseLive => (Level::Info, format!("release {release} takes the calls")),
        What::CanaryStarted { permille } => {
            let percent = f64::from(*permille) / 10.0;
            let line = format!("release {release} takes {percent} % of the calls");
            (Level::Info, line)
        }
        What::Promoted => (Level::Info, format!("release {release} is promoted")),
        What::Scaled { replicas } => (Level::Info, format!("replicas: {replicas}")),
        What::Starting
        | What::Ready
        | What::Draining
        | What::Retiring
        | What::Stopped
        | What::Frozen
        | What::Thawed
        | What::ReleaseStarted => return None,
    };
    Some(said)
}
