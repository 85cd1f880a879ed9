//! How the agent ended, for those who were waiting for its answer when it did.

use std::cell::RefCell;

use par_model::control::EndCause;

#[derive(Default)]
pub(crate) struct Fate {
    cause: RefCell<Option<EndCause>>,
}

impl Fate {
    /// The first cause stays: what follows is its consequence.
    pub(crate) fn seal(&self, cause: EndCause) {
        self.cause.borrow_mut().get_or_insert(cause);
    }

    pub(crate) fn words(&self) -> String {
        match &*self.cause.borrow() {
            Some(cause) => cause.to_string(),
            None => "it closed its channel".to_owned(),
        }
    }
}
