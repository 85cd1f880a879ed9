use par_lifecycle::Settings;
use crate::world::{Moment, World};
pub(crate) struct Ledger;
impl Ledger {
    pub(crate) fn new(_: Settings) -> Self { Self }
    pub(crate) fn note(&mut self, _: &Moment, _: &World) {}
    pub(crate) fn compare(&self, _: &World) {}
}
