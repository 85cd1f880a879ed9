//! Line by line: code is typed, runs in the session, and shows what it is worth.

use super::completeness::goes_on;
use super::editor::{Editor, Typed};
use super::page::Page;
use super::session::{Asked, Life, Session};
use crate::command::Context;
use crate::exit::{self, AlreadyTold};
use crate::signals::{Heard, Signals};

const FIRST: &str = ">>> ";
const MORE: &str = "... ";

pub(super) async fn run(
    session: &Session<'_>,
    asked: impl Fn(String) -> Asked,
    context: &Context,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    signals.listen_to_hangup()?;
    greet(session, context);
    let mut editor = Editor::start()?;
    loop {
        let typed = tokio::select! {
            typed = code(&mut editor) => typed?,
            // At the prompt Ctrl-C is a key. Its signal came too late for what ran before.
            () = signals.heard(Heard::Terminate) => {
                editor.abandon();
                context.terminal.note("");
                return Ok(());
            }
        };
        match typed {
            Typed::Line(code) if is_farewell(&code) => return Ok(()),
            Typed::Line(code) => {
                editor.remember(&code).await;
                if perform(session, &asked(code), context, signals).await == Next::End {
                    return Ok(());
                }
            }
            Typed::Dropped => {}
            Typed::End => return Ok(()),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Prompt,
    End,
}

fn greet(session: &Session<'_>, context: &Context) {
    let (agent, id) = (session.agent(), session.id());
    let end = match session.life() {
        Life::Stays => "stays after Ctrl-D",
        Life::Ours => "ends with Ctrl-D",
    };
    let greeting = format!("{agent}, session {id}: {end}");
    context.terminal.note(&greeting);
}

/// Code that is whole: one line, or all lines of a block.
async fn code(editor: &mut Editor) -> anyhow::Result<Typed> {
    let mut code = String::new();
    loop {
        let prompt = if code.is_empty() { FIRST } else { MORE };
        match editor.line(prompt).await? {
            Typed::Line(line) if code.is_empty() && line.trim().is_empty() => {}
            Typed::Line(line) => {
                code.push_str(&line);
                if !goes_on(&code) {
                    return Ok(Typed::Line(code));
                }
                code.push('\n');
            }
            other => return Ok(other),
        }
    }
}

/// The session's Python has no `exit`: it does not own the terminal.
fn is_farewell(code: &str) -> bool {
    matches!(code.trim(), "exit" | "exit()" | "quit" | "quit()")
}

/// Runs one piece of code. Whatever comes of that, the next prompt follows.
async fn perform(
    session: &Session<'_>,
    asked: &Asked,
    context: &Context,
    signals: &mut Signals,
) -> Next {
    let mut page = Page::new(context);
    let ended = tokio::select! {
        ended = page.follow(session, asked) => Ok(ended),
        heard = signals.next() => Err(heard),
    };
    let told = match ended {
        Ok(Ok(ended)) => page.close(&ended),
        Ok(Err(error)) => page.end_line().map_err(Into::into).and(Err(error)),
        Err(Heard::Terminate) => return Next::End,
        Err(Heard::Interrupt) => {
            let ended = page.end_line();
            context.terminal.note("interrupted");
            ended.map_err(Into::into)
        }
    };
    if let Err(error) = told
        && !error.is::<AlreadyTold>()
    {
        exit::tell(&error, context.terminal);
    }
    Next::Prompt
}
