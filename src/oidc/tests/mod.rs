//! The whole room against a provider that misbehaves on demand, row by row of what a relying party
//! must refuse and what it must accept.

mod discovery;
mod http;
mod id_token;
mod keys;
mod login;
mod provider;
mod refresh;
mod token_endpoint;
