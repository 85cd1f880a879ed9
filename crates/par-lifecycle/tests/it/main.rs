
mod stage;
mod stories;
