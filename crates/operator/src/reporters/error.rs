//! Errors of applying and deleting generated objects.

use node_readiness_engine::status::Reporters;
use thiserror::Error;

/// A generated object could not be applied or deleted.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The API server refused, or could not be reached.
    #[error("{kind} {name} could not be {verb}: {cause}")]
    Refused {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The failed operation, as a past participle.
        verb: &'static str,
        /// The cause, usually the API server's message.
        cause: String,
    },
    /// A foreign object has this name.
    #[error(
        "{kind} {name} is {whose}, so the operator does not change it; delete or rename it, because reporters \
         need this name"
    )]
    Taken {
        /// Kind of the object.
        kind: String,
        /// Its namespace, if it has one, and name.
        name: String,
        /// Its owner.
        whose: String,
    },
    /// Another client reverts the object repeatedly.
    #[error(
        "another client changes or removes {field} of {object} repeatedly; the operator applies it again \
         with exponential backoff; to find the field manager, run kubectl get -o yaml --show-managed-fields"
    )]
    Reverted {
        /// Kind, namespace and name of the object.
        object: String,
        /// The field.
        field: String,
    },
    /// An object could not be written as JSON.
    #[error("{kind} {name} could not be written as JSON: {cause}")]
    Encode {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// The cause.
        cause: serde_json::Error,
    },
}

impl ApplyError {
    /// Returns the state of the reporters after this error.
    pub(crate) fn reporters(&self) -> Reporters {
        match self {
            Self::Taken { .. } => Reporters::NameTaken(self.to_string()),
            Self::Refused { .. } | Self::Encode { .. } | Self::Reverted { .. } => {
                Reporters::Failed(self.to_string())
            }
        }
    }
}
