//! The requirements of a rule besides conditions, compiled.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{ParseExpressionError, Selector};
use node_readiness_api::{AfterReboot, NodeReadinessRuleSpec, PodRequirement, ResourceRequirement};

use crate::quantity;

/// The maximum length of a selector in a message, in characters.
const LONGEST: usize = 128;

/// What a watch observes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Pods.
    Pods(PodSource),
    /// All `CSINodes`.
    CsiNodes,
    /// All `ResourceSlices`.
    ResourceSlices,
}

/// The pods of a requirement, as the API server selects them. Equal requirements of several rules share a watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodSource {
    /// Their namespace.
    pub namespace: String,
    /// Their label selector, in the form of the API's `labelSelector`.
    pub selector: String,
}

impl PodSource {
    /// Returns the start of the selector, for messages. A selector may have thousands of values.
    fn short_selector(&self) -> Cow<'_, str> {
        match self.selector.char_indices().nth(LONGEST) {
            Some((end, _)) => Cow::Owned(format!("{}…", &self.selector[..end])),
            None => Cow::Borrowed(&self.selector),
        }
    }
}

/// Names it in a sentence.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(pods) => {
                write!(f, "pods in {} that match {}", pods.namespace, pods.short_selector())
            }
            Self::CsiNodes => f.write_str("CSINodes"),
            Self::ResourceSlices => f.write_str("ResourceSlices"),
        }
    }
}

/// A requirement besides conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A Ready pod on the node.
    Pods {
        /// Name of the requirement.
        name: String,
        /// The pods.
        source: PodSource,
        /// Whether they count after a reboot of the node only if their containers have restarted.
        reset_by_reboot: bool,
    },
    /// A CSI driver that is registered on the node.
    CsiDriver(String),
    /// A resource of which the node has enough.
    Resource {
        /// Name of the resource.
        name: String,
        /// The minimum as text.
        text: String,
        /// The minimum in billionths.
        minimum: i128,
    },
    /// A DRA driver that has published all of its `ResourceSlices` for the node.
    ResourceDriver(String),
}

impl Signal {
    /// Compiles a rule's requirements besides conditions.
    ///
    /// # Errors
    ///
    /// The field that cannot be evaluated, with the cause.
    pub(crate) fn compile(spec: &NodeReadinessRuleSpec) -> Result<Vec<Self>, (String, String)> {
        let reset_by_reboot = spec.after_reboot != Some(AfterReboot::Keep);
        let pods = spec.pods.iter().map(|required| {
            Self::pods(required, reset_by_reboot).map_err(|error| {
                (format!("spec.pods[{}].selector", required.name), error.to_string())
            })
        });
        let drivers = spec.csi_drivers.iter().cloned().map(Self::CsiDriver).map(Ok);
        let resources = spec.resources.iter().map(|required| {
            Self::resource(required).ok_or_else(|| {
                let field = format!("spec.resources[{}].minimum", required.name);
                (field, "it is not a quantity".to_owned())
            })
        });
        let dra_drivers = spec.resource_drivers.iter().cloned().map(Self::ResourceDriver).map(Ok);
        pods.chain(drivers).chain(resources).chain(dra_drivers).collect()
    }

    fn pods(
        required: &PodRequirement,
        reset_by_reboot: bool,
    ) -> Result<Self, ParseExpressionError> {
        let PodRequirement { name, namespace, selector } = required;
        let selector = Selector::try_from(selector.clone())?.to_string();
        let source = PodSource { namespace: namespace.clone(), selector };
        Ok(Self::Pods { name: name.clone(), source, reset_by_reboot })
    }

    fn resource(required: &ResourceRequirement) -> Option<Self> {
        let text = match &required.minimum {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        let minimum = quantity::nanos(&text)?;
        Some(Self::Resource { name: required.name.clone(), text, minimum })
    }

    /// Returns the watch that observes it. The Node itself has its resources.
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::Pods { source, .. } => Some(Source::Pods(source.clone())),
            Self::CsiDriver(_) => Some(Source::CsiNodes),
            Self::Resource { .. } => None,
            Self::ResourceDriver(_) => Some(Source::ResourceSlices),
        }
    }

    /// Describes why it is not met.
    pub(crate) fn unmet(&self) -> String {
        match self {
            Self::Pods { source, .. } => {
                format!("no Ready pod in {} matches {}", source.namespace, source.short_selector())
            }
            Self::CsiDriver(driver) => format!("the CSI driver {driver} is not registered"),
            Self::Resource { name, text, .. } => {
                format!("allocatable {name} is less than {text}")
            }
            Self::ResourceDriver(driver) => {
                format!("the DRA driver {driver} has not published all of its ResourceSlices")
            }
        }
    }

    /// Describes why it does not count since the node rebooted.
    pub(crate) fn outdated(&self) -> String {
        match self {
            Self::Pods { source, .. } => format!(
                "no pod in {} that matches {} has restarted since the node rebooted",
                source.namespace,
                source.short_selector()
            ),
            _ => self.unmet(),
        }
    }

    /// Describes that it is not known.
    pub(crate) fn unobserved(&self) -> String {
        self.source().map_or_else(String::new, |source| format!("{source} are not observed yet"))
    }
}

/// Field and name: `pods/calico`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods { name, .. } => write!(f, "pods/{name}"),
            Self::CsiDriver(driver) => write!(f, "csiDrivers/{driver}"),
            Self::Resource { name, .. } => write!(f, "resources/{name}"),
            Self::ResourceDriver(driver) => write!(f, "resourceDrivers/{driver}"),
        }
    }
}
