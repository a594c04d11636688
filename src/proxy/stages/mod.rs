//! The stages of a request; `decide` and `pipeline` say in which order.

pub(super) mod admit;
pub(super) mod authenticate;
pub(super) mod authorize;
pub(super) mod conclude;
pub(super) mod connect;
pub(super) mod delegation;
pub(super) mod fail;
pub(super) mod forward;
pub(super) mod hold;
pub(super) mod legacy;
pub(super) mod limit;
pub(super) mod origin;
pub(super) mod rate;
pub(super) mod recall;
pub(super) mod relay;
pub(super) mod route;
pub(super) mod timing;
pub(super) mod upgrade;
