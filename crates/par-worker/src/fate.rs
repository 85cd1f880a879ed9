//! How the agent ended, for those who were waiting for its answer when it did.

use std::cell::RefCell;

use par_model::control::EndCause;
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Fate {
    cause: RefCell<Option<EndCause>>,
    sealed: Notify,
}

impl Fate {
    /// The first cause stays: what follows is its consequence.
    pub(crate) fn seal(&self, cause: EndCause) {
        self.cause.borrow_mut().get_or_insert(cause);
        self.sealed.notify_waiters();
    }

    /// Waits for the cause: a channel is seen to close before its process is seen to end.
    pub(crate) async fn words(&self) -> String {
        loop {
            let sealed = self.sealed.notified();
            if let Some(cause) = &*self.cause.borrow() {
                return cause.to_string();
            }
            sealed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_before_the_cause_is_known_is_told_the_first() {
        let fate = Fate::default();
        let seal = async {
            fate.seal(EndCause::Exit { code: 7 });
            fate.seal(EndCause::Asked);
        };
        let (words, ()) = tokio::join!(fate.words(), seal);
        assert_eq!(words, "exited with code 7");
    }
}
