//! The whole room against a provider that misbehaves on demand, row by row of what a relying party
//! must refuse and what it must accept.

mod bearer;
mod discovery;
mod http;
mod id_token;
mod introspection;
mod keys;
mod login;
mod logout_token;
mod provider;
mod refresh;
mod same_keys;
mod token_endpoint;
mod wycheproof;
