//! What an exit status says to people.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use par_model::control::EndCause;

pub fn end_cause(status: ExitStatus) -> EndCause {
    match (status.code(), status.signal()) {
        (Some(code), _) => EndCause::Exit { code },
        (None, Some(signal)) => EndCause::Signal {
            signal,
            name: signal_name(signal),
        },
        (None, None) => EndCause::Worker {
            reason: format!("unknown exit status {status}"),
        },
    }
}

/// `SIGKILL` for 9.
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 16] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT",
    ];
    usize::try_from(signal - 1)
        .ok()
        .and_then(|index| NAMES.get(index))
        .map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_that_people_know() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(11), "SIGSEGV");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(40), "signal 40");
    }
}
