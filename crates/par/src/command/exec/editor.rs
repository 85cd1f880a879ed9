//! The line editor, on a thread of its own: it waits for a person, and nothing else may wait for it.

use std::io;
use std::thread;

use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Cmd, Config, KeyCode, KeyEvent, Modifiers};
use tokio::sync::mpsc;

type Rustyline = rustyline::Editor<(), MemHistory>;

/// What Tab writes.
const INDENT: &str = "    ";

pub(super) struct Editor {
    asks: mpsc::Sender<Ask>,
    answers: mpsc::Receiver<rustyline::Result<String>>,
    /// The terminal as it was.
    before: Termios,
}

enum Ask {
    Line { prompt: &'static str },
    Remember { code: String },
}

pub(super) enum Typed {
    Line(String),
    /// Ctrl-C: what has been typed is not meant.
    Dropped,
    /// Ctrl-D, or the terminal is gone.
    End,
}

impl Editor {
    pub(super) fn start() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("failed to read the terminal's settings")?;
        let config = Config::builder().auto_add_history(false).build();
        let mut editor = Rustyline::with_history(config, MemHistory::new())
            .context("failed to start the line editor")?;
        let tab = KeyEvent(KeyCode::Tab, Modifiers::NONE);
        editor.bind_sequence(tab, Cmd::Insert(1, INDENT.to_owned()));
        let (asks, asked) = mpsc::channel(2);
        let (answered, answers) = mpsc::channel(1);
        // Nobody waits for its end: it may sit in a read that only a key ends, and it owns nothing that outlives it.
        thread::Builder::new()
            .name("line-editor".to_owned())
            .spawn(move || serve(editor, asked, &answered))
            .context("failed to start a thread for the line editor")?;
        Ok(Self {
            asks,
            answers,
            before,
        })
    }

    pub(super) async fn line(&mut self, prompt: &'static str) -> anyhow::Result<Typed> {
        // An editor that is gone is noticed when nothing answers.
        drop(self.asks.send(Ask::Line { prompt }).await);
        match self.answers.recv().await {
            Some(Ok(line)) => Ok(Typed::Line(line)),
            Some(Err(ReadlineError::Interrupted)) => Ok(Typed::Dropped),
            Some(Err(ReadlineError::Eof)) | None => Ok(Typed::End),
            Some(Err(error)) => Err(anyhow::Error::new(error).context("failed to read a line")),
        }
    }

    /// Makes it what the up key brings back.
    pub(super) async fn remember(&self, code: &str) {
        let code = code.trim_end().to_owned();
        drop(self.asks.send(Ask::Remember { code }).await);
    }

    /// Gives the terminal back while the editor still waits for a key.
    pub(super) fn abandon(self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.before) {
            tracing::debug!(%error, "the terminal is not as it was");
        }
    }
}

fn serve(
    mut editor: Rustyline,
    mut asked: mpsc::Receiver<Ask>,
    answered: &mpsc::Sender<rustyline::Result<String>>,
) {
    while let Some(ask) = asked.blocking_recv() {
        match ask {
            Ask::Line { prompt } => {
                let read = editor.readline(prompt);
                if answered.blocking_send(read).is_err() {
                    return;
                }
            }
            Ask::Remember { code } => {
                // Its memory can only refuse what it has already, or what is empty.
                drop(editor.add_history_entry(code));
            }
        }
    }
}
