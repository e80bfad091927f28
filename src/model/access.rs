//! Who may do what: the roles of an app's members, and the rights that operations need. Both are ordered.

/// The role of a member of an app. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub enum Role {
    /// Sees state and logs.
    Viewer,
    /// Also pushes, clones, builds and rolls back.
    Deployer,
    /// Also scales, sets and sees config vars, runs commands, maps ports.
    Operator,
    /// Also manages members, transfers and destroys the app.
    Owner,
}

/// A right that an operation needs, or that a caller has. Each right includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub enum Right {
    /// To reach the server: every caller has it, also one whose token is limited to an app or a role.
    Connect,
    /// To use the server: every user has it.
    Use,
    /// To see an app's state and logs.
    View,
    /// To push to an app, clone, build and roll back.
    Deploy,
    /// To scale an app, set and see its config vars, run commands, map ports.
    Operate,
    /// To manage an app's members, to transfer and to destroy it.
    Own,
    /// To manage the server: admins alone have it.
    Admin,
}

impl Role {
    /// All roles, in ascending order.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Deployer, Self::Operator, Self::Owner];

    /// Name that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }

    /// The highest right that the role gives on its app.
    pub fn right(self) -> Right {
        match self {
            Self::Viewer => Right::View,
            Self::Deployer => Right::Deploy,
            Self::Operator => Right::Operate,
            Self::Owner => Right::Own,
        }
    }
}

impl Right {
    /// The least role that has this right: `user`, a role of the app, or `admin`.
    pub fn least_role(self) -> &'static str {
        match self {
            Self::Connect | Self::Use => "user",
            Self::View => Role::Viewer.as_str(),
            Self::Deploy => Role::Deployer.as_str(),
            Self::Operate => Role::Operator.as_str(),
            Self::Own => Role::Owner.as_str(),
            Self::Admin => "admin",
        }
    }
}

/// A word that is no role; prints as one line with the roles that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role; use viewer, deployer, operator or owner")]
pub struct InvalidRole(pub String);

impl std::str::FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| InvalidRole(text.chars().take(80).collect()))
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_the_rights_of_those_before_it() {
        let rights: Vec<_> = Role::ALL.iter().map(|role| role.right()).collect();
        assert_eq!(rights, [Right::View, Right::Deploy, Right::Operate, Right::Own]);
        assert!(rights.is_sorted() && Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(role.right().least_role(), role.as_str());
        }
        assert!("Owner".parse::<Role>().is_err());
    }
}
