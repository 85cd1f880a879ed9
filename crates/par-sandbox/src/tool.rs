//! Runs a tool of ours, such as an installer, to its end.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use par_model::Layer;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::children::start;
use crate::own::tool_variables;

/// The last bytes of a tool's output that are kept for its failure.
const KEPT_OUTPUT: usize = 64 << 10;
const LONGEST_LINE: u64 = 4 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("failed to run `{program}`")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("`{program}` did not end within {after:?}")]
    TimedOut { program: String, after: Duration },
    #[error("`{program}` failed: {status}")]
    Failed {
        program: String,
        status: ExitStatus,
        output: String,
    },
    #[error("`{program}` was not run: {layer} did not take hold {why}")]
    NotConfined {
        program: String,
        layer: Layer,
        why: String,
    },
    #[error("`{program}` was ended: {why}")]
    Ended { program: String, why: String },
}

/// One line of a tool's output.
pub type Line<'a> = &'a str;

/// Runs `argv` in `folder` with the environment that tools need, standard error merged behind standard output.
/// Each line is shown to `on_line` as it comes.
pub async fn run_tool(
    argv: &[OsString],
    folder: &Path,
    limit: Duration,
    mut on_line: impl FnMut(Line<'_>),
) -> Result<(), ToolError> {
    let program = argv
        .first()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    let failed = |source| ToolError::Run {
        program: program.clone(),
        source,
    };
    let mut tool = Command::new(&program);
    tool.args(argv.get(1..).unwrap_or_default())
        .current_dir(folder)
        .env_clear()
        .envs(tool_variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = start(&mut tool).map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let errors = tail(stderr);
        let lines = read_lines(stdout, &mut on_line);
        let (errors, output) = tokio::join!(errors, lines);
        child.wait().await.map(|status| (status, output + &errors))
    };
    let Ok(ended) = timeout(limit, work).await else {
        return Err(ToolError::TimedOut {
            program,
            after: limit,
        });
    };
    let (status, output) = ended.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(ToolError::Failed {
        program,
        status,
        output,
    })
}

/// Reads to the end; a line longer than the bound is shown in pieces.
pub(crate) async fn read_lines(
    from: Option<impl AsyncRead + Unpin>,
    on_line: &mut impl FnMut(Line<'_>),
) -> String {
    let Some(from) = from else {
        return String::new();
    };
    let mut reader = BufReader::new(from);
    let mut kept = vec![];
    let mut line = vec![];
    loop {
        line.clear();
        match (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                keep(&mut kept, &line);
                on_line(String::from_utf8_lossy(&line).trim_end());
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

async fn tail(from: Option<impl AsyncRead + Unpin>) -> String {
    read_lines(from, &mut |_| {}).await
}

fn keep(kept: &mut Vec<u8>, line: &[u8]) {
    kept.extend_from_slice(line);
    if kept.len() > 2 * KEPT_OUTPUT {
        kept.drain(..kept.len() - KEPT_OUTPUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<OsString> {
        ["/bin/sh", "-c", script].map(OsString::from).to_vec()
    }

    #[tokio::test]
    async fn a_tool_that_fails_leaves_its_last_words() {
        let mut seen = vec![];
        let argv = shell("echo one; echo two >&2; exit 3");
        let ended = run_tool(&argv, Path::new("/"), Duration::from_secs(10), |line| {
            seen.push(line.to_owned())
        })
        .await;
        let Err(ToolError::Failed { output, status, .. }) = ended else {
            panic!("expected a failure, got {ended:?}");
        };
        assert_eq!(
            (output.as_str(), status.code(), seen),
            ("one\ntwo\n", Some(3), vec!["one".to_owned()])
        );
    }

    #[tokio::test]
    async fn a_tool_that_hangs_is_ended() {
        let ended = run_tool(
            &shell("exec sleep 1000"),
            Path::new("/"),
            Duration::from_millis(50),
            |_| {},
        )
        .await;
        assert!(
            matches!(ended, Err(ToolError::TimedOut { .. })),
            "{ended:?}"
        );
    }
}
