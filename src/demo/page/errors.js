// What each error code of the proxy means, in one sentence, and where to look.
// Keys are the `code` of application/problem+json.

export const meanings = {
  not_authenticated: ["There is no live session behind this request.", "Log in; whether a route asks for a session is its `auth` in routes/*.yaml."],
  no_token_available: ["You are logged in, but no token can be made for this service, so nothing was sent to it.", "Give the service its audience under `service_audiences` in conf/settings.yaml."],
  invalid_token: ["The bearer token that was sent is not acceptable.", "Which issuers and audiences are accepted is written in conf/idps.yaml."],
  forbidden: ["You are known, but not allowed to do this.", "The rules belong to the policy decision point, not to the routes."],
  csrf_failed: ["The request did not come from this site, so the cookie does not count for it.", "Origins that may call are listed under `cors.allow_origins` in conf/settings.yaml."],
  forbidden_origin: ["Pages of this origin may not call the proxy.", "Add the origin to `cors.allow_origins` in conf/settings.yaml."],
  no_route: ["No route has this path.", "Add one to a file in routes/; `pingora-bff explain GET /path` says what would answer."],
  unknown_service: ["The legacy façade knows no service of this name.", "Services are listed in conf/legacy_services.yaml."],
  method_not_allowed: ["The path is known, but not with this method.", "See `methods` of the route in routes/*.yaml."],
  bad_request: ["The request can be read in more than one way, so it is refused before anybody guesses.", "There is nothing to configure: the client must send a plain path."],
  body_too_large: ["The body is larger than the limit.", "See `request_limits.max_body_size` in conf/legacy_services.yaml, or `max_body_size` of the route."],
  rate_limited: ["Too many requests in a short time.", "Wait as long as `Retry-After` says."],
  upstream_error: ["The service could not be reached, or broke off.", "Check its URL in routes/*.yaml or conf/legacy_services.yaml, and whether it runs."],
  upstream_timeout: ["The service took longer than it may.", "See its `timeout` in routes/*.yaml; for the façade `legacy_service_timeouts` in conf/legacy_services.yaml."],
  upstream_auth_failed: ["The identity provider could not be asked for a token.", "Check `issuer` in conf/idps.yaml, and whether the provider runs."],
  circuit_open: ["The service failed so often in a row that it is left alone for a while; then one call is let through as a trial.", "See `circuit_breaker` in conf/legacy_services.yaml."],
  store_unavailable: ["The session store cannot be reached; your cookie is kept.", "See `session.store` in conf/settings.yaml."],
};

export function explain(code) {
  return meanings[code] ?? ["This answer is not one of the proxy's own.", "The body above is what the service said."];
}
