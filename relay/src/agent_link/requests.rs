//! What the operator asks of an agent, one thing at a time, and the answers.

use crate::directory::Action;
use converge_proto::rendezvous::{Request, Response, messages::Line};
use tokio::sync::oneshot;

/// What the agent is being asked: one thing at a time.
#[derive(Default)]
pub(super) struct Requests {
    last: u64,
    waiting: Option<oneshot::Sender<Result<(), Line>>>,
}

impl Requests {
    pub(super) fn is_free(&self) -> bool {
        self.waiting.is_none()
    }

    pub(super) fn begin(&mut self, action: Action, answer: oneshot::Sender<Result<(), Line>>) -> Request {
        self.last += 1;
        self.waiting = Some(answer);
        let request = Request { number: self.last, ..Request::default() };
        match action {
            Action::Stop(reason) => Request { stop: Some(reason), ..request },
            Action::Extend(time) => {
                Request { extend_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..request }
            }
            Action::Message(text) => Request { message: Some(text), ..request },
        }
    }

    /// An answer to what is not asked any more is late, and means nothing.
    pub(super) fn answer(&mut self, response: Response) {
        if response.number == self.last
            && let Some(waiting) = self.waiting.take()
        {
            // Whoever asked may have gone.
            let _ = waiting.send(response.refusal.map_or(Ok(()), Err));
        }
    }

    /// Whoever asked does not wait any more, so that the next one can be asked.
    pub(super) async fn given_up(&mut self) {
        match &mut self.waiting {
            Some(waiting) => waiting.closed().await,
            None => std::future::pending().await,
        }
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_gets_its_own_answer() {
        let mut requests = Requests::default();
        let (answer, answered) = oneshot::channel();
        let request = requests.begin(Action::Extend(std::time::Duration::from_secs(2)), answer);
        assert_eq!((request.number, request.extend_ms, requests.is_free()), (1, Some(2000), false));
        requests.answer(Response { number: 7, refusal: None });
        assert!(!requests.is_free(), "an answer to something else");
        requests.answer(Response { number: 1, refusal: Some(Line::new("no")) });
        assert_eq!((answered.await, requests.is_free()), (Ok(Err(Line::new("no"))), true));
    }

    #[tokio::test]
    async fn one_that_is_not_waited_for_makes_room_and_its_late_answer_is_nobodys() {
        let mut requests = Requests::default();
        let (answer, answered) = oneshot::channel();
        requests.begin(Action::Stop(Line::new("first")), answer);
        drop(answered);
        requests.given_up().await;
        assert!(requests.is_free());
        let (answer, answered) = oneshot::channel();
        requests.begin(Action::Message(Line::new("second")), answer);
        requests.answer(Response { number: 1, refusal: Some(Line::new("late")) });
        requests.answer(Response { number: 2, refusal: None });
        assert_eq!(answered.await, Ok(Ok(())));
    }
}
