//! Who asks. Until authentication arrives, whoever asks says so by header, and is of the one tenant.

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::request::Parts;
use windlass_model::{Actor, TenantId};

use crate::problem::{Problem, Result};
use crate::query::header_text;

pub(crate) const USER: HeaderName = HeaderName::from_static("x-windlass-user");
pub(crate) const ROLES: HeaderName = HeaderName::from_static("x-windlass-roles");

/// Who asks when no header says so.
pub(crate) const ANONYMOUS: &str = "anonymous";
/// Names end up in every event that their bearer causes.
pub(crate) const USER_CHARS_MAX: usize = 128;
pub(crate) const ROLE_CHARS_MAX: usize = 64;
pub(crate) const ROLES_MAX: usize = 32;

/// The author of a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub tenant: TenantId,
    pub actor: Actor,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        Self::of(parts)
    }
}

impl Caller {
    /// The tenant is for whoever stands before the door to say: as an extension of the request, which no client can send.
    pub(crate) fn of(parts: &Parts) -> Result<Self> {
        let headers = &parts.headers;
        let tenant = parts.extensions.get().copied().unwrap_or(TenantId::DEFAULT);
        let id = header_text(headers, &USER, "X-Windlass-User")?.unwrap_or(ANONYMOUS);
        if id.is_empty() || id.len() > USER_CHARS_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            let bounds = format!("1 to {USER_CHARS_MAX} visible ASCII characters without spaces");
            return Err(Problem::header("X-Windlass-User", bounds));
        }
        let roles = read_roles(header_text(headers, &ROLES, "X-Windlass-Roles")?.unwrap_or_default())?;
        Ok(Self { tenant, actor: Actor::User { id: id.to_owned(), roles } })
    }
}

fn read_roles(text: &str) -> Result<Vec<String>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let roles: Vec<String> = text.split(',').map(|role| role.trim_matches(' ').to_owned()).collect();
    let good = |role: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        !role.is_empty() && role.len() <= ROLE_CHARS_MAX && role.bytes().all(plain)
    };
    if roles.len() > ROLES_MAX || !roles.iter().all(good) {
        let bounds = format!(
            "up to {ROLES_MAX} names of letters, digits, `_`, `.` and `-`, \
             each up to {ROLE_CHARS_MAX} long, separated by commas"
        );
        return Err(Problem::header("X-Windlass-Roles", bounds));
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(user: Option<&str>, roles: Option<&str>) -> Result<Actor> {
        let (mut parts, ()) = axum::http::Request::new(()).into_parts();
        for (name, value) in [(USER, user), (ROLES, roles)] {
            if let Some(value) = value {
                parts.headers.insert(name, value.parse().unwrap());
            }
        }
        Caller::of(&parts).map(|caller| caller.actor)
    }

    #[test]
    fn a_caller_is_of_the_one_tenant_unless_the_request_was_given_another() {
        let (mut parts, ()) = axum::http::Request::new(()).into_parts();
        assert_eq!(Caller::of(&parts).unwrap().tenant, TenantId::DEFAULT);
        parts.extensions.insert(TenantId(7));
        assert_eq!(Caller::of(&parts).unwrap().tenant, TenantId(7));
    }

    #[test]
    fn a_claim_names_a_user_and_roles() {
        assert_eq!(of(None, None).unwrap(), Actor::user("anonymous"));
        let roles = vec!["editor".to_owned(), "finance-lead".to_owned()];
        let ada = Actor::User { id: "ada".into(), roles };
        assert_eq!(of(Some("ada"), Some("editor, finance-lead")).unwrap(), ada);
    }

    #[test]
    fn a_claim_has_bounds() {
        let long = "x".repeat(USER_CHARS_MAX + 1);
        for user in ["", "a b", "ä", long.as_str()] {
            assert!(of(Some(user), None).is_err(), "{user}");
        }
        let many = vec!["r"; ROLES_MAX + 1].join(",");
        for roles in ["a,,b", "a b", "a;b", many.as_str()] {
            assert!(of(None, Some(roles)).is_err(), "{roles}");
        }
    }
}
