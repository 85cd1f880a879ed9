//! What is said of an agent's life: in its own log, and as an event.

use par_lifecycle::{Note, What};
use par_model::control::EndCause;
use par_model::event::{EventKind, NewEvent};
use par_model::log::Level;
use serde_json::{Value, json};

use crate::events::now_ms;

/// `None`: the log has it already, or nobody needs it there.
pub(crate) fn line(note: &Note) -> Option<(Level, String)> {
    let release = note.release.0;
    let said = match &note.what {
        What::Failed(cause) => (Level::Error, format!("failed to start: {cause}")),
        What::Crashed(cause) => (Level::Error, format!("crashed for good: {cause}")),
        What::Exited(cause) => match cause {
            EndCause::Exit { code: 0 } => (Level::Info, format!("stopped by itself: {cause}")),
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

/// What happened, after why, where that is a kind of its own.
pub(crate) fn events(note: &Note) -> impl Iterator<Item = NewEvent> {
    let event = |(kind, reason, details)| NewEvent {
        at_ms: now_ms(),
        kind,
        agent: Some(note.agent.clone()),
        replica: note.replica,
        release: Some(note.release.0),
        reason,
        details,
    };
    let why = match &note.what {
        What::Exited(cause) | What::Crashed(cause) | What::Failed(cause) => why(cause),
        _ => None,
    };
    why.map(event).into_iter().chain([event(said(&note.what))])
}

/// Ends that people watch for.
fn why(cause: &EndCause) -> Option<Said> {
    let (kind, details) = match cause {
        EndCause::OutOfMemory {
            limit_bytes,
            peak_bytes,
            ..
        } => {
            let figures = json!({ "limit_bytes": limit_bytes, "peak_bytes": peak_bytes });
            (EventKind::OutOfMemory, Some(figures))
        }
        EndCause::TooManyProcesses { .. }
        | EndCause::WorkspaceFull { .. }
        | EndCause::TooManyFiles { .. } => (EventKind::LimitHit, None),
        EndCause::Hung { .. } | EndCause::Silent { .. } => (EventKind::Hung, None),
        _ => return None,
    };
    Some((kind, Some(cause.to_string()), details))
}

type Said = (EventKind, Option<String>, Option<Value>);

fn said(what: &What) -> Said {
    let plain = |kind| (kind, None, None);
    match what {
        What::Starting => plain(EventKind::Starting),
        What::Ready => plain(EventKind::Ready),
        What::Draining => plain(EventKind::Draining),
        What::Retiring => {
            let reason = "it stays for the sessions that began on it".to_owned();
            (EventKind::Draining, Some(reason), None)
        }
        What::Stopped => plain(EventKind::Stopped),
        What::Exited(cause) => ended(EventKind::Exited, cause),
        What::Crashed(cause) => ended(EventKind::Crashed, cause),
        What::Failed(cause) => ended(EventKind::Failed, cause),
        What::ReleaseFailed(cause) => ended(EventKind::ReleaseFailed, cause),
        What::Restarting { after } => {
            let details = json!({ "in_seconds": after.as_secs_f64() });
            (EventKind::Restarting, None, Some(details))
        }
        What::Frozen => plain(EventKind::Frozen),
        What::Thawed => plain(EventKind::Thawed),
        What::Slept => plain(EventKind::IdleStopped),
        What::Waking => plain(EventKind::Waking),
        What::Adopted => plain(EventKind::Adopted),
        What::ReleaseStarted => plain(EventKind::ReleaseStarted),
        What::ReleaseLive => plain(EventKind::ReleaseLive),
        What::CanaryStarted { permille } => {
            let details = json!({ "percent": f64::from(*permille) / 10.0 });
            (EventKind::CanaryStarted, None, Some(details))
        }
        What::Promoted => plain(EventKind::Promoted),
        What::Scaled { replicas } => {
            let details = json!({ "replicas": replicas });
            (EventKind::Scaled, None, Some(details))
        }
    }
}

fn ended(kind: EventKind, cause: &EndCause) -> Said {
    let traceback = match cause {
        EndCause::LoadFailed { traceback, .. } => traceback.as_ref(),
        _ => None,
    };
    let details = traceback.map(|traceback| json!({ "traceback": traceback }));
    (kind, Some(cause.to_string()), details)
}
