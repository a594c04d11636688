//! What people see when the provider lies or breaks: a page that says so with a way on, no session, no
//! loop; and what the log says. (`oidc/tests` holds every single check; this is the view from outside.)

mod login;
mod logout;
mod moved;
mod refresh;

use crate::harness::liar::Liar;
use crate::harness::{Edge, Setup, Upstream};

/// An edge whose users log in there; `/pass/x` sends their login token to the service.
async fn edge_at(liar: &Liar) -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let pass = "{ id: pass, path: \"/pass/*\", target_service: any_service, preserve_path: true, auth: session, \
                token_policy: { mode: session_passthrough } }";
    let setup = Setup::new().service_alone("any", &upstream.url(), None, "timeout: 5").route(pass);
    (setup.provider_at(&liar.base).start().await, upstream)
}
