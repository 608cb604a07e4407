//! Answers in XML must be whole. The SDK's reader takes one that ends in the middle for one with fewer elements: a target
//! group with fewer targets, a load balancer without a test listener.

use aws_sdk_elasticloadbalancingv2::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_elasticloadbalancingv2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_elasticloadbalancingv2::error::BoxError;

/// Turns a good answer whose root element does not end into an error.
#[derive(Debug)]
pub(super) struct CompleteXml;

impl Intercept for CompleteXml {
    fn name(&self) -> &'static str {
        "complete XML"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        if context.output_or_error().is_ok() && !is_complete(body) {
            return Err(format!("the answer ends in the middle, after {} bytes", body.len()).into());
        }
        Ok(())
    }
}

fn is_complete(xml: &[u8]) -> bool {
    let text = std::str::from_utf8(xml).unwrap_or_default().trim_end();
    let mut names = text.split('<').skip(1).filter_map(|tag| tag.split([' ', '\n', '\t', '/', '>']).next());
    let root = names.find(|name| !name.starts_with(['?', '!']));
    root.is_some_and(|root| text.ends_with(&format!("</{root}>")))
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn an_answer_ends_with_its_root() {
        let whole =
            "<?xml version=\"1.0\"?>\n<Answer xmlns=\"http://a/b\">\n<Group><Name/></Group>\n</Answer>\n";
        assert!(is_complete(whole.as_bytes()));
        for length in 0..whole.len() - 2 {
            assert!(!is_complete(&whole.as_bytes()[..length]), "{length}");
        }
        for other in ["", "{}", "</Answer>", "<a></b>"] {
            assert!(!is_complete(other.as_bytes()), "{other}");
        }
    }
}
