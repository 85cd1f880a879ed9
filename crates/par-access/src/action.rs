//! What a request wants to do.

/// What is asked for, as far as it matters who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// To hear that the runtime is up, and nothing else.
    CheckLiveness,
    /// To look.
    Read,
    /// To change agents.
    Deploy,
    /// To change the runtime itself, or see what only its operator may see.
    Administer,
    /// To call an agent, by the name that was asked for.
    Call(&'a str),
}

/// Paths that answer to everybody, even where everything else needs a token.
const ALIVE: [&str; 1] = ["/runtime/health"];

/// Paths that tell; a `/` at the end stands for all paths below.
const READ: [&str; 7] = [
    "/metrics",
    "/openapi.json",
    "/supervisor/events",
    "/supervisor/health",
    "/supervisor/logs",
    "/supervisor/status",
    "/api/deployments/",
];

/// Paths that change agents, or tell about one.
const DEPLOY: [&str; 7] = [
    "/supervisor/deploy",
    "/supervisor/spawn",
    "/supervisor/start/",
    "/supervisor/stop/",
    "/supervisor/restart/",
    AGENTS,
    "/api/agent-apps/",
];

const AGENTS: &str = "/supervisor/agents/";

/// Of an agent, what its operator alone may change: who deploys it only asks.
const OPERATORS: [&str; 2] = ["network", "secrets"];

impl<'a> Action<'a> {
    /// What a request to the control API wants, by the path as it is routed. What is not known here needs most.
    pub fn of_control(method: &str, path: &str) -> Action<'a> {
        let looks = matches!(method, "GET" | "HEAD");
        let among = |paths: &[&str]| paths.iter().any(|known| stands_for(known, path));
        match looks {
            true if among(&ALIVE) => Action::CheckLiveness,
            true if among(&READ) || among(&DEPLOY) => Action::Read,
            false if is_operators(path) => Action::Administer,
            // Clearing the logs of an agent is a change of it.
            false if among(&DEPLOY) || path == "/supervisor/logs" => Action::Deploy,
            _ => Action::Administer,
        }
    }

    /// As the audit log and messages name it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::CheckLiveness => "health",
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Administer => "admin",
            Self::Call(_) => "call",
        }
    }

    /// Whether it changes something beside what an agent keeps for itself.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Deploy | Self::Administer)
    }
}

fn is_operators(path: &str) -> bool {
    let below = path
        .strip_prefix(AGENTS)
        .and_then(|agent| agent.split_once('/'));
    let what = below.and_then(|(_, rest)| rest.split('/').next());
    what.is_some_and(|what| OPERATORS.contains(&what))
}

fn stands_for(known: &str, path: &str) -> bool {
    match known.ends_with('/') {
        true => path.starts_with(known),
        false => path == known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_path_of_the_control_api_needs() {
        let table = [
            ("GET", "/runtime/health", Action::CheckLiveness),
            ("POST", "/runtime/health", Action::Administer),
            ("GET", "/metrics", Action::Read),
            ("GET", "/supervisor/status", Action::Read),
            ("HEAD", "/supervisor/logs", Action::Read),
            ("DELETE", "/supervisor/logs", Action::Deploy),
            ("GET", "/supervisor/agents/a/releases", Action::Read),
            ("POST", "/supervisor/agents/a/scale", Action::Deploy),
            ("POST", "/supervisor/deploy", Action::Deploy),
            ("POST", "/supervisor/stop/par-a", Action::Deploy),
            ("POST", "/supervisor/start/a", Action::Deploy),
            ("POST", "/supervisor/restart/a", Action::Deploy),
            ("DELETE", "/supervisor/agents/a", Action::Deploy),
            ("GET", "/supervisor/agents/a/secrets", Action::Read),
            ("POST", "/supervisor/agents/a/secrets", Action::Administer),
            (
                "DELETE",
                "/supervisor/agents/a/secrets/X",
                Action::Administer,
            ),
            (
                "POST",
                "/supervisor/agents/a/network/grant",
                Action::Administer,
            ),
            ("POST", "/supervisor/upgrade", Action::Administer),
            ("GET", "/supervisor/tokens", Action::Administer),
            ("GET", "/supervisor/audit", Action::Administer),
            ("GET", "/supervisor/status/", Action::Administer),
            ("GET", "/", Action::Administer),
            ("OPTIONS", "/supervisor/status", Action::Administer),
        ];
        for (method, path, action) in table {
            assert_eq!(Action::of_control(method, path), action, "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_nobody_has_written_down_takes_an_admin(path in "/[a-z%/.]{0,30}") {
            let written = ALIVE.iter().chain(&READ).chain(&DEPLOY);
            let known = written.clone().any(|known| path.starts_with(known));
            prop_assume!(!known);
            prop_assert_eq!(Action::of_control("GET", &path), Action::Administer);
            prop_assert_eq!(Action::of_control("POST", &path), Action::Administer);
        }
    }
}
