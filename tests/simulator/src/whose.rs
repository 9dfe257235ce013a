//! The two tenants of a world, who call everything by the same names.

use serde::{Deserialize, Serialize};
use windlass_model::TenantId;

/// Whose something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    #[default]
    Ours,
    Theirs,
}

impl Whose {
    pub(crate) const ALL: [Self; 2] = [Self::Ours, Self::Theirs];

    pub(crate) fn tenant(self) -> TenantId {
        match self {
            Self::Ours => TenantId::DEFAULT,
            Self::Theirs => TenantId(TenantId::DEFAULT.0 + 1),
        }
    }

    pub(crate) fn of(tenant: TenantId) -> Self {
        if tenant == Self::Ours.tenant() { Self::Ours } else { Self::Theirs }
    }

    #[must_use]
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Ours => Self::Theirs,
            Self::Theirs => Self::Ours,
        }
    }

    pub(crate) fn is_ours(&self) -> bool {
        *self == Self::Ours
    }
}
