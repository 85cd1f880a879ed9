//! What keeps agents apart here, tried with canaries: programs of ours that try to get out.

use par_model::Profile;
use par_sandbox::{Reach, Tried};
use par_supervisor::{Settings, try_walls};

use super::{Finding, Verdict};

/// One finding for each profile, the strongest first, and one for what would be used.
pub(super) async fn isolation(settings: &Settings) -> Vec<Finding> {
    let tried = try_walls(settings).await;
    let mut findings: Vec<Finding> = tried
        .iter()
        .map(|(profile, tried)| of_profile(*profile, tried))
        .collect();
    findings.push(chosen(settings, &tried));
    findings
}

fn of_profile(profile: Profile, tried: &Tried) -> Finding {
    let check = match profile {
        Profile::Full => "full",
        Profile::Userns => "userns",
        Profile::Restricted => "restricted",
        Profile::Unsafe => "unsafe",
    };
    match tried {
        Tried::Holds { unproven } if unproven.is_empty() => {
            let found = format!(
                "holds: a canary got nowhere, and one without walls got everywhere; lost: {}",
                profile.lost()
            );
            Finding::new(check, Verdict::Ok, found)
        }
        Tried::Holds { unproven } => {
            let words: Vec<&str> = unproven.iter().map(|reach: &Reach| reach.words()).collect();
            let found = format!(
                "holds; not proven, for one without walls could not either: {}",
                words.join(", ")
            );
            Finding::new(check, Verdict::Ok, found)
        }
        Tried::Fails { why, advice } => {
            let finding = Finding::new(check, Verdict::Warn, format!("not here: {why}"));
            match advice {
                Some(advice) => finding.help(advice),
                None => finding,
            }
        }
    }
}

/// What `par up` with these settings would do.
fn chosen(settings: &Settings, tried: &[(Profile, Tried)]) -> Finding {
    let holds = |profile: &Profile| {
        *profile == Profile::Unsafe
            || tried
                .iter()
                .any(|(tried, outcome)| tried == profile && matches!(outcome, Tried::Holds { .. }))
    };
    let used = settings.isolation.candidates().find(holds);
    match used {
        Some(Profile::Unsafe) => {
            let found = "agents run with nothing that keeps them from anything, because the settings say so";
            Finding::new("isolation", Verdict::Warn, found).help("run only packages that you trust")
        }
        Some(profile) => {
            let found = format!("agents and sessions run under `{profile}`");
            Finding::new("isolation", Verdict::Ok, found)
        }
        None => {
            let minimum = settings
                .isolation
                .profile
                .unwrap_or(settings.isolation.minimum);
            let found = format!("nothing starts: `{minimum}` is required, and does not hold here");
            Finding::new("isolation", Verdict::Fail, found).help(
                "mend what the lines above name, or ask for less: [isolation] profile = \"unsafe\" in par.toml keeps nothing apart",
            )
        }
    }
}
