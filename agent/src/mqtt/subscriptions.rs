//! What we are subscribed to, and what was asked of the broker about it and not answered yet.

use std::collections::VecDeque;

use super::packet::{Packet, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe};
use super::packet_ids::PacketIds;
use super::session::{Action, RequestId, Violation};
use super::topic;
use super::{Error, QoS};

/// Filters of one SUBSCRIBE at most: AWS IoT Core takes 8 ("Subscriptions per subscribe request",
/// AWS IoT Core endpoints and quotas).
const FILTERS_PER_PACKET: usize = 8;

/// Filters and requests that are held at most, so that a caller in a loop cannot fill the memory.
const LIMIT: usize = 256;

/// Bytes of a SUBSCRIBE beside its filters: fixed header and packet id.
const PACKET_HEADER: usize = 7;

/// Bytes of a filter in a SUBSCRIBE beside its text: length and quality of service.
const FILTER_HEADER: usize = 3;

#[derive(Debug)]
pub(super) struct Subscriptions {
    /// What the callers want, whether or not the broker has answered. It is asked for again when the broker forgot it.
    wanted: Vec<Wanted>,
    /// In the order in which they were asked; the ones with a packet id, which were sent, are in front.
    requests: VecDeque<Request>,
    next: u64,
    max_packet: usize,
    limit: usize,
}

#[derive(Debug)]
struct Wanted {
    filter: String,
    qos: QoS,
    is_granted: bool,
}

#[derive(Debug)]
struct Request {
    /// Who waits for the answer; nobody when it is our own, to restore a subscription.
    id: Option<RequestId>,
    filter: String,
    wish: Wish,
    packet_id: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Subscribe(QoS),
    Unsubscribe,
}

impl Subscriptions {
    pub fn new(max_packet: usize) -> Self {
        Self { wanted: Vec::new(), requests: VecDeque::new(), next: 0, max_packet, limit: LIMIT }
    }

    /// The broker takes no more filters than this.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(LIMIT);
    }

    /// Whether requests wait for their answer.
    pub fn are_asked(&self) -> bool {
        !self.requests.is_empty()
    }

    pub fn subscribe(&mut self, filter: String, qos: QoS) -> Result<RequestId, Error> {
        let known = self.wanted.iter().position(|wanted| wanted.filter == filter);
        if known.is_none() && self.wanted.len() >= self.limit {
            return Err(Error::TooManySubscriptions(self.limit));
        }
        // A second subscription must not lower what the first one needs.
        let qos = known.map_or(qos, |index| qos.max(self.wanted[index].qos));
        let id = self.request(filter.clone(), Wish::Subscribe(qos))?;
        match known {
            Some(index) => self.wanted[index].qos = qos,
            None => self.wanted.push(Wanted { filter, qos, is_granted: false }),
        }
        Ok(id)
    }

    /// As `subscribe`, but the broker is not asked when it has granted as much; then that comes along.
    pub fn join(&mut self, filter: &str, qos: QoS) -> Result<(RequestId, Option<QoS>), Error> {
        let is_enough = |wanted: &&Wanted| wanted.filter == filter && wanted.is_granted && wanted.qos >= qos;
        if let Some(wanted) = self.wanted.iter().find(is_enough) {
            self.next += 1;
            return Ok((RequestId(self.next), Some(wanted.qos)));
        }
        Ok((self.subscribe(filter.into(), qos)?, None))
    }

    pub fn unsubscribe(&mut self, filter: String) -> Result<RequestId, Error> {
        let id = self.request(filter.clone(), Wish::Unsubscribe)?;
        self.wanted.retain(|wanted| wanted.filter != filter);
        Ok(id)
    }

    fn request(&mut self, filter: String, wish: Wish) -> Result<RequestId, Error> {
        if !topic::is_filter(&filter) {
            return Err(Error::Filter(filter));
        }
        let size = PACKET_HEADER + FILTER_HEADER + filter.len();
        if size > self.max_packet {
            return Err(Error::TooLarge { size, limit: self.max_packet });
        }
        // With as many subscriptions as there may be, each can still be restored and ended.
        if self.requests.len() >= 3 * LIMIT {
            return Err(Error::TooManySubscriptions(LIMIT));
        }
        self.next += 1;
        let id = RequestId(self.next);
        self.requests.push_back(Request { id: Some(id), filter, wish, packet_id: None });
        Ok(id)
    }

    /// The connection is up. Requests without an answer are asked again; when the broker has forgotten the session, it is
    /// first asked for all that is wanted. Such a request stays until it is answered: the next connection may find the
    /// session that this one made, without the subscription.
    pub fn connected(&mut self, session_present: bool) {
        if session_present {
            return;
        }
        self.requests.retain(|request| request.id.is_some());
        for Wanted { filter, qos, .. } in self.wanted.iter().rev() {
            if !is_asked(&self.requests, filter) {
                let (filter, wish) = (filter.clone(), Wish::Subscribe(*qos));
                self.requests.push_front(Request { id: None, filter, wish, packet_id: None });
            }
        }
    }

    /// The connection is gone: no answer will come to what was asked on it.
    pub fn disconnected(&mut self, ids: &mut PacketIds) {
        for request in &mut self.requests {
            if let Some(packet_id) = request.packet_id.take() {
                ids.free(packet_id);
            }
        }
    }

    /// The next SUBSCRIBE or UNSUBSCRIBE to send: requests of one kind that follow each other share a packet.
    pub fn next(&mut self, ids: &mut PacketIds) -> Option<Packet> {
        let first = self.requests.iter().position(|request| request.packet_id.is_none())?;
        let count = self.batch(first);
        if count == 0 {
            return None;
        }
        let packet_id = ids.take()?;
        let (mut filters, mut topics) = (Vec::new(), Vec::new());
        for request in self.requests.iter_mut().skip(first).take(count) {
            request.packet_id = Some(packet_id);
            match request.wish {
                Wish::Subscribe(qos) => {
                    filters.push(SubscribeFilter { path: request.filter.clone(), qos: qos.into() });
                }
                Wish::Unsubscribe => topics.push(request.filter.clone()),
            }
        }
        Some(match topics.is_empty() {
            true => Packet::Subscribe(Subscribe { pkid: packet_id, filters }),
            false => Packet::Unsubscribe(Unsubscribe { pkid: packet_id, topics }),
        })
    }

    /// How many requests from `first` on go into one packet: of one kind, and none about a filter that an earlier one is
    /// about, since its answer might overtake that one's.
    fn batch(&self, first: usize) -> usize {
        let (mut count, mut size) = (0, PACKET_HEADER);
        for (index, request) in self.requests.iter().enumerate().skip(first).take(FILTERS_PER_PACKET) {
            size += FILTER_HEADER + request.filter.len();
            let is_other_kind = (request.wish == Wish::Unsubscribe) != (self.requests[first].wish == Wish::Unsubscribe);
            let is_asked = self.requests.iter().take(index).any(|earlier| earlier.filter == request.filter);
            if is_other_kind || is_asked || (size > self.max_packet && count > 0) {
                break;
            }
            count += 1;
        }
        count
    }

    /// The answer to a SUBSCRIBE, one code for each of its filters.
    pub fn suback(
        &mut self,
        packet_id: u16,
        codes: &[SubscribeReasonCode],
        ids: &mut PacketIds,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), Violation> {
        let asked = self.requests.iter().filter(|request| request.packet_id == Some(packet_id));
        let (count, any_unsubscribe) =
            asked.fold((0, false), |(count, any), request| (count + 1, any || request.wish == Wish::Unsubscribe));
        if count == 0 {
            log::debug!("SUBACK {packet_id} answers nothing that was asked");
            return Ok(());
        }
        if count != codes.len() || any_unsubscribe {
            return Err(Violation::SubAck { filters: count, codes: codes.len() });
        }
        for (code, request) in codes.iter().zip(self.take(packet_id, ids)) {
            let Wish::Subscribe(wanted) = request.wish else { continue };
            let granted = match code {
                SubscribeReasonCode::Failure => None,
                // A broker may grant less than was asked, never more.
                SubscribeReasonCode::Success(granted) => Some(wanted.min((*granted).into())),
            };
            let known = self.wanted.iter().position(|wanted| wanted.filter == request.filter);
            match known {
                Some(index) if granted.is_some() => self.wanted[index].is_granted = true,
                Some(index) if !is_asked(&self.requests, &request.filter) => drop(self.wanted.remove(index)),
                _ => {}
            }
            actions.push_back(Action::Subscribed { request: request.id, filter: request.filter, granted });
        }
        Ok(())
    }

    /// The answer to an UNSUBSCRIBE.
    pub fn unsuback(
        &mut self,
        packet_id: u16,
        ids: &mut PacketIds,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), Violation> {
        let mut asked = self.requests.iter().filter(|request| request.packet_id == Some(packet_id)).peekable();
        if asked.peek().is_none() {
            log::debug!("UNSUBACK {packet_id} answers nothing that was asked");
            return Ok(());
        }
        if asked.any(|request| request.wish != Wish::Unsubscribe) {
            return Err(Violation::UnsubAck);
        }
        for request in self.take(packet_id, ids) {
            if let Some(id) = request.id {
                actions.push_back(Action::Unsubscribed(id));
            }
        }
        Ok(())
    }

    /// Takes the answered requests out.
    fn take(&mut self, packet_id: u16, ids: &mut PacketIds) -> VecDeque<Request> {
        ids.free(packet_id);
        let requests = std::mem::take(&mut self.requests);
        let (answered, open) = requests.into_iter().partition(|request| request.packet_id == Some(packet_id));
        self.requests = open;
        answered
    }

    /// Filters that the broker granted.
    pub fn granted(&self) -> usize {
        self.wanted.iter().filter(|wanted| wanted.is_granted).count()
    }
}

/// Whether a caller's request to subscribe to this filter is open.
fn is_asked(requests: &VecDeque<Request>, filter: &str) -> bool {
    requests.iter().any(|r| r.id.is_some() && r.wish != Wish::Unsubscribe && r.filter == filter)
}
