//! Commands that are refused.

use par_lifecycle::{Beside, Command, Event, Refusal};
use par_model::RestartMode;

use crate::stage::{Stage, agent, deployment, settings};

#[test]
fn an_agent_that_nobody_deployed_is_not_found() {
    let mut stage = Stage::new(settings());
    for command in [
        Command::Start(agent("ghost")),
        Command::Stop(agent("ghost")),
        Command::Restart(agent("ghost")),
        Command::Remove(agent("ghost")),
        Command::Wake(agent("ghost")),
        Command::Scale(agent("ghost"), 2),
        Command::Promote(agent("ghost")),
        Command::Abandon(agent("ghost")),
        Command::Deploy(
            agent("ghost"),
            deployment(RestartMode::OnFailure),
            Beside::Canary { permille: 100 },
        ),
    ] {
        assert_eq!(
            stage.try_ask(command),
            Err(Refusal::NotFound(agent("ghost")))
        );
    }
}

#[test]
fn an_agent_that_lives_is_neither_deployed_nor_started_again() {
    let mut stage = Stage::new(settings());
    let replica = stage.deploy("a", deployment(RestartMode::OnFailure));
    let again = [
        Command::Deploy(
            agent("a"),
            deployment(RestartMode::OnFailure),
            Beside::Refuse,
        ),
        Command::Start(agent("a")),
    ];
    for command in again.clone() {
        assert_eq!(
            stage.try_ask(command),
            Err(Refusal::AlreadyRuns(agent("a")))
        );
    }
    stage.tell(Event::Ready(replica));
    for command in again.clone() {
        assert_eq!(
            stage.try_ask(command),
            Err(Refusal::AlreadyRuns(agent("a")))
        );
    }
    stage.ask(Command::Stop(agent("a")));
    for command in again {
        assert_eq!(
            stage.try_ask(command),
            Err(Refusal::StillStopping(agent("a")))
        );
    }
}
