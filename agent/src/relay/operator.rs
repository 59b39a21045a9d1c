//! What the relay's operator may ask of an agent: to end, to stay, to show a message.
//!
//! It is no more than whoever runs the relay could do by cutting links, put into words that users see.

use crate::life::{EndReason, Life, notice::Notice};
use converge_proto::rendezvous::{Request, Response, messages::Line};
use std::time::Duration;
use tracing::info;

/// Nobody means more than that, and clocks must not overflow.
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// Does what the operator asks, or says why not.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) life: Life,
    /// Whether the operator may ask at all.
    pub(crate) is_heard: bool,
}

impl Operator {
    pub(super) fn handle(&self, request: Request) -> Response {
        let number = request.number;
        info!(?request, is_heard = self.is_heard, "the relay's operator asks");
        let refusal = self.obey(request).err().map(Line::new);
        Response { number, refusal }
    }

    fn obey(&self, request: Request) -> Result<(), &'static str> {
        if !self.is_heard {
            return Err("this agent was started with --ignore-operator");
        }
        match request {
            Request { stop: Some(reason), extend_ms: None, message: None, .. } => {
                self.life
                    .tell(Notice::warning(format!("the relay's operator ends this job: {reason}"), None));
                self.life.end(EndReason::Operator);
                Ok(())
            }
            Request { stop: None, extend_ms: Some(time), message: None, .. } => {
                self.life.extend_soon(Duration::from_millis(time).min(LONGEST), "the relay's operator");
                Ok(())
            }
            Request { stop: None, extend_ms: None, message: Some(text), .. } => {
                self.life.tell(Notice::info(format!("message from the relay's operator: {text}")));
                Ok(())
            }
            _ => Err("this agent does not know the request; it may be older than the relay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_shown_as_the_operators() {
        let operator = Operator { life: Life::endless(), is_heard: true };
        let mut notices = operator.life.notices();
        let request = Request { number: 3, message: Some(Line::new("hello")), ..Request::default() };
        assert_eq!(operator.handle(request), Response { number: 3, refusal: None });
        assert_eq!(notices.recv().await.unwrap().text, "message from the relay's operator: hello");
    }

    #[tokio::test]
    async fn what_is_not_understood_or_not_wanted_is_refused_in_words() {
        let life = Life::endless();
        let mut notices = life.notices();
        let two = Request { stop: Some(Line::new("a")), message: Some(Line::new("b")), ..Request::default() };
        let answers = [
            Operator { life: life.clone(), is_heard: true }.handle(Request::default()),
            Operator { life: life.clone(), is_heard: true }.handle(two),
            Operator { life, is_heard: false }.handle(Request { extend_ms: Some(1), ..Request::default() }),
        ];
        assert!(answers.iter().all(|answer| answer.refusal.is_some()), "{answers:?}");
        assert!(notices.try_recv().is_err());
    }
}
