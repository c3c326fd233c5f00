#include "object_store/transfer/transfer.h"

#include "common/check.h"

namespace manta::object_store {

Result<std::unique_ptr<Transfer>> Transfer::start(StoreServer& store, Options options) {
  MANTA_ASSIGN_OR_RETURN(Wake wake, Wake::create());
  std::unique_ptr<Transfer> transfer(new Transfer(store, std::move(wake)));
  if (!options.certificate.empty()) {
    MANTA_ASSIGN_OR_RETURN(transfer->tls_, TlsContext::create(options.certificate, options.key));
  }
  MANTA_ASSIGN_OR_RETURN(transfer->reader_, LocalReader::create(store, options.reader, options.node, transfer->wake_));
  const BulkClient::Options client{
      .node = options.node, .streams_per_node = options.streams_per_node, .tls = transfer->tls_.get()};
  transfer->client_ = std::make_unique<BulkClient>(client, transfer->peers_, transfer->wake_);
  transfer->source_ = std::make_unique<BulkSource>(options.node, *transfer->reader_, transfer->client_->queue());
  const BulkServer::Options server{
      .node = options.node, .listen = options.listen, .listener_fd = options.listener_fd, .tls = transfer->tls_.get()};
  MANTA_ASSIGN_OR_RETURN(transfer->server_, BulkServer::start(server, *transfer->source_, transfer->peers_));
  store.connect({.pull = [self = transfer.get()](StoreServer::Pull pull) { self->client_->start(std::move(pull)); },
                 .forward = std::move(options.forward),
                 .tell = std::move(options.tell),
                 .deliver = std::move(options.deliver)});
  return transfer;
}

Transfer::~Transfer() {
  store_.connect({});
  if (reader_) reader_->close();
  if (client_) client_->close();
  server_.reset();
  if (!client_) return;
  for (const TransferQueue::Done& done : client_->take_done()) store_.pull_done(done.name, done.status);
}

void Transfer::on_wake() {
  wake_.clear();
  reader_->on_wake();
  for (const TransferQueue::Done& done : client_->take_done()) store_.pull_done(done.name, done.status);
}

void Transfer::node_joined(wire::NodeNumber node, Peers::Peer peer, uint64_t ids_from) {
  peers_.allow(node, std::move(peer));
  if (ids_from == 0) return;
  client_->find_again(node);
  store_.node_back(node, ids_from);
}

void Transfer::node_lost(wire::NodeNumber node, const Status& cause) {
  peers_.revoke(node);
  server_->hang_up(node);
  source_->forget(node);
  client_->lose(node, cause);
  store_.node_lost(node, cause);
}

}  // namespace manta::object_store
