//! The people who can log in.

/// One invented person; the password is not looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// What is typed into the form, and the `sub` of every token.
    pub login: &'static str,
    /// `given_name`.
    pub given_name: &'static str,
    /// `family_name`.
    pub family_name: &'static str,
    /// `email`; a reserved domain (RFC 2606 §3).
    pub email: &'static str,
}

/// Everybody.
pub const USERS: [User; 2] = [
    User { login: "ada", given_name: "Ada", family_name: "Lovelace", email: "ada@example.com" },
    User { login: "grace", given_name: "Grace", family_name: "Hopper", email: "grace@example.com" },
];

/// The person who typed `login`; case and outer blanks do not matter.
pub fn find(login: &str) -> Option<&'static User> {
    let login = login.trim();
    USERS.iter().find(|user| user.login.eq_ignore_ascii_case(login))
}
