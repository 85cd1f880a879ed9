//! Runs a program that others may have a say in, such as an installer of what they wrote, behind walls and to its end.

use std::net::TcpListener;
use std::time::Duration;

use par_model::isolation;
use tokio::time::timeout;

use crate::agent::spawn_agent;
use crate::confine::{Plan, Program};
use crate::tool::{Line, ToolError, read_lines};

/// For output that is still in a pipe when the program has ended; somebody else may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs `plan`, and shows each line of its output to `on_line` as it comes.
///
/// `beside` gets those who listen on the ports of the plan. What it makes of them goes on until the program ends; when it
/// is done first, the program is ended for that reason. What left the namespaces, in a profile without, is the caller's to
/// end: it is in the control groups of the plan.
pub async fn run_confined_tool<B: Future<Output = String>>(
    plan: &Plan,
    limit: Duration,
    on_line: impl FnMut(Line<'_>),
    beside: impl FnOnce(Vec<TcpListener>) -> B,
) -> Result<(), ToolError> {
    let program = match &plan.program {
        Program::Execute { path, .. } => path.to_string_lossy().into_owned(),
        Program::Canary(_) => "canary".to_owned(),
    };
    match timeout(limit, run(plan, &program, on_line, beside)).await {
        Ok(ended) => ended,
        Err(_elapsed) => Err(ToolError::TimedOut {
            program,
            after: limit,
        }),
    }
}

async fn run<B: Future<Output = String>>(
    plan: &Plan,
    program: &str,
    mut on_line: impl FnMut(Line<'_>),
    beside: impl FnOnce(Vec<TcpListener>) -> B,
) -> Result<(), ToolError> {
    let failed = |source| ToolError::Run {
        program: program.to_owned(),
        source,
    };
    let mut process = spawn_agent().map_err(failed)?;
    let (confined, listeners) = process.confine(plan).await.map_err(failed)?;
    let missing = isolation::missing(plan.confinement.profile, &confined.layers);
    if let Some(layer) = missing.first() {
        return Err(ToolError::NotConfined {
            program: program.to_owned(),
            layer: *layer,
            why: confined.without_group.unwrap_or_default(),
        });
    }
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    process.gate.open().await.map_err(failed)?;
    let mut output = std::pin::pin!(async {
        let mut nothing = |_: Line<'_>| {};
        tokio::join!(
            read_lines(stdout, &mut on_line),
            read_lines(stderr, &mut nothing)
        )
    });
    let mut said = None;
    let mut beside = std::pin::pin!(beside(listeners));
    let status = loop {
        tokio::select! {
            status = process.child.wait() => break status.map_err(failed)?,
            all = &mut output, if said.is_none() => said = Some(all),
            why = &mut beside => {
                let program = program.to_owned();
                return Err(ToolError::Ended { program, why });
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = match said {
        Some(said) => said,
        None => timeout(LAST_WORDS, output).await.unwrap_or_default(),
    };
    Err(ToolError::Failed {
        program: program.to_owned(),
        status,
        output: said.0 + &said.1,
    })
}
