//! What an `INetworkDefinition` of the stand-in is: the model that a parser put into it.

use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::counters::{self, Live};
use crate::log::Logger;
use crate::model::Network;
use crate::settings::{self, Fault};

/// One complaint of a parser.
#[derive(Debug, Clone)]
pub struct Complaint {
    pub text: CString,
    pub node: CString,
    pub operator: CString,
}

#[derive(Default)]
struct State {
    network: Option<Arc<Network>>,
    /// The parser owns the weights that a network refers to: it must live until the build is done.
    parser_is_gone: bool,
}

/// Shared by the network and its parsers.
#[derive(Clone, Default)]
pub struct Definition(Arc<Mutex<State>>);

impl Definition {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was parsed. Says so where a correct program would not ask any more.
    pub fn network_for_build(&self) -> Option<Arc<Network>> {
        let state = self.state();
        if state.parser_is_gone {
            counters::violation(
                "a network is built after its ONNX parser, which owns its weights, was deleted",
            );
        }
        state.network.clone()
    }

    /// What was parsed.
    pub fn network(&self) -> Option<Arc<Network>> {
        self.state().network.clone()
    }
}

/// What an `IParser` owns.
pub struct Parser {
    definition: Definition,
    logger: Logger,
    pub complaints: Vec<Complaint>,
    _live: Live,
}

impl Parser {
    pub fn new(definition: &Definition, logger: Logger) -> Self {
        let definition = definition.clone();
        Self { definition, logger, complaints: Vec::new(), _live: Live::new(&counters::LIVE_PARSERS) }
    }

    /// `IParser::parse`
    pub fn parse(&mut self, onnx: &[u8]) -> bool {
        self.logger.chatter("parse");
        let parsed = if settings::due(Fault::ParseFails) {
            Err("Unsupported operator MadeUp: refused on demand".to_owned())
        } else {
            Network::parse(onnx)
        };
        match parsed {
            Ok(network) => {
                self.definition.state().network = Some(Arc::new(network));
                true
            }
            Err(why) => {
                self.logger.error(&format!("ModelImporter: {why}"));
                let text = |text: &str| CString::new(text.replace('\0', " ")).unwrap_or_default();
                let (operator, node) = operator_and_node(&why);
                self.complaints.push(Complaint {
                    text: text(&why),
                    node: text(node),
                    operator: text(operator),
                });
                false
            }
        }
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let mut state = self.definition.state();
        state.parser_is_gone = state.network.is_some();
    }
}

/// The built-in engine says `… operator Foo (at node-Foo) …`; TensorRT has both in fields of their own.
fn operator_and_node(why: &str) -> (&str, &str) {
    let word = |after: &str| {
        let (_, rest) = why.split_once(after)?;
        rest.split([' ', ')', ':', ',']).next()
    };
    (word("operator ").unwrap_or(""), word("(at ").unwrap_or(""))
}
