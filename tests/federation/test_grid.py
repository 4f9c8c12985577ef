import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedmosaic import events
from fedmosaic.federation import wire
from fedmosaic.federation.grid import InProcessGrid, announce_training


def make_app():
    app = ClientApp()

    @app.query("who")
    def who(message, context):
        count = int(context.state["seen"]["count"]) + 1 if "seen" in context.state else 1
        context.state["seen"] = ConfigRecord({"count": count})
        if message.content["ask"].get("fail"):
            raise ValueError("/secret/path")
        answer = {"id": context.node_config["partition-id"], "count": count, "run": context.run_config["name"]}
        return Message(RecordDict({"answer": ConfigRecord(answer)}), reply_to=message)

    return app


def make_grid(**kwargs):
    return InProcessGrid(
        make_app(), node_configs=[{"partition-id": i} for i in range(3)], run_config={"name": "r"}, **kwargs
    )


def ask(grid, nodes, **question):
    content = RecordDict({"ask": ConfigRecord(question)})
    return list(grid.send_and_receive([Message(content, node, "query.who", group_id="1") for node in nodes]))


@pytest.mark.parametrize(("steps", "loss"), [(2, 0.5), (0, None)])
def test_a_client_elsewhere_that_took_no_step_has_no_loss(steps, loss):
    node = next(iter(make_grid().get_node_ids()))
    message = Message(RecordDict(), node, "train", group_id="3")
    content = wire.add_metrics(wire.pack({"client": 1, "round": 3}), {"loss": 0.5, "steps": steps, "seconds": 1.0})
    heard = []
    with events.listening(heard.append):
        announce_training(Message(content, reply_to=message))
    assert heard == [events.Trained(1, 3, loss, 1.0)]


def test_the_grid_implements_all_of_flowers_abstract_members():
    assert not InProcessGrid.__abstractmethods__
    assert issubclass(InProcessGrid, Grid)


def test_every_node_answers_for_itself_and_keeps_its_own_state():
    grid = make_grid()
    nodes = list(grid.get_node_ids())
    assert len(nodes) == 3
    ask(grid, nodes[:1])
    replies = ask(grid, nodes)
    assert [reply.content["answer"]["id"] for reply in replies] == [0, 1, 2]
    assert [reply.content["answer"]["count"] for reply in replies] == [2, 1, 1]
    assert [reply.metadata.src_node_id for reply in replies] == nodes
    assert {reply.content["answer"]["run"] for reply in replies} == {"r"}


def test_replies_name_the_message_they_answer_and_are_given_out_once():
    grid = make_grid()
    content = RecordDict({"ask": ConfigRecord({})})
    ids = list(grid.push_messages([Message(content, node, "query.who", group_id="1") for node in grid.get_node_ids()]))
    replies = list(grid.pull_messages(ids))
    assert [reply.metadata.reply_to_message_id for reply in replies] == ids
    assert list(grid.pull_messages(ids)) == []


def test_a_failing_client_raises_or_becomes_an_error_that_leaks_nothing():
    with pytest.raises(ValueError, match="secret"):
        ask(make_grid(), [2], fail=True)
    grid = make_grid(catch=True)
    (reply,) = ask(grid, [2], fail=True)
    assert reply.has_error()
    assert "secret" not in str(reply.error.reason)
    (after,) = ask(grid, [2])
    assert after.content["answer"]["count"] == 1  # the failed call's state was not committed


def test_an_unknown_node_is_an_error_reply():
    (reply,) = ask(make_grid(), [99])
    assert reply.has_error()
