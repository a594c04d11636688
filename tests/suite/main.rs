//! The program from outside, and the contracts of its parts. One file a topic.

#[cfg(test)]
mod store;
