//! `doctor`, against real nodes behind a real nginx: each set-up that is broken in one way is named, and nothing else is called
//! wrong.

mod broken;
mod flags;
mod setup;
mod sound;
