"""The clients that people use already, against our server with a real vLLM behind it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import SecretStr

from serving.clients import langchain, llama_index
from serving.clients.search_api import SearchAPI
from tests.e2e.kb_process import Server
from tests.models.sentences import Fact
from tests.vllm_process import FIRST_START_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.timeout(FIRST_START_S),
    pytest.mark.usefixtures("alive"),
]

OPENAI_FOR_JAVASCRIPT = "7.57.0"


def test_langchains_chat_model(grounded: Server, facts: list[Fact]) -> None:
    model = ChatOpenAI(model="kb", base_url=f"{grounded.url}/v1", api_key=SecretStr("unused"))

    whole = model.invoke(facts[0].question)
    streamed = "".join(str(chunk.content) for chunk in model.stream(facts[0].question))

    assert whole.content
    assert streamed == whole.content


def test_llamaindexs_chat_model(grounded: Server, facts: list[Fact]) -> None:
    model = OpenAILike(
        model="kb", api_base=f"{grounded.url}/v1", api_key="unused", is_chat_model=True
    )
    question = [ChatMessage(role="user", content=facts[0].question)]

    whole = model.chat(question).message.content
    streamed = "".join(part.delta or "" for part in model.stream_chat(question))

    assert whole
    assert streamed == whole


def test_langchains_retriever(grounded: Server, facts: list[Fact]) -> None:
    retriever = langchain.KBRetriever(api=SearchAPI(grounded.url, limit=3))

    found = retriever.invoke(facts[0].question)

    assert len(found) == 3
    assert found[0].page_content == facts[0].sentence
    assert found[0].metadata["uri"].endswith("f0.md")


async def test_llamaindexs_retriever(grounded: Server, facts: list[Fact]) -> None:
    retriever = llama_index.KBRetriever(SearchAPI(grounded.url, limit=3))

    found = await retriever.aretrieve(facts[0].question)

    assert [node.text for node in found[:1]] == [facts[0].sentence]
    assert found[0].score
    assert retriever.retrieve(facts[0].question)[0].node_id == found[0].node_id


SCRIPT = """
import OpenAI from "openai";
const [url, question] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: question }];
const whole = await client.chat.completions.create({ model: "kb", messages });
let text = "", citations;
for await (const chunk of await client.chat.completions.create({ model: "kb", messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
  citations = chunk.citations ?? citations;
}
const aborted = await client.chat.completions.create({ model: "kb", messages, stream: true });
aborted.controller.abort();
const models = (await client.models.list()).data.map((model) => model.id);
const vectors = await client.embeddings.create({ model: "kb-embedding", input: ["tea"] });
let error;
try {
  await client.chat.completions.create({ model: "nowhere", messages });
} catch (caught) {
  error = { status: caught.status, code: caught.code };
}
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, answeredBy: whole.kb.answered_by, text, citations,
  wholeCitations: whole.citations, models, width: vectors.data[0].embedding.length, error,
}));
"""


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node.js and npm")
def test_the_javascript_package(grounded: Server, facts: list[Fact], tmp_path: Path) -> None:
    package = f"openai@{OPENAI_FOR_JAVASCRIPT}"
    install = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--silent", package]
    subprocess.run(install, cwd=tmp_path, check=True)
    (tmp_path / "ask.mjs").write_text(SCRIPT)

    printed = subprocess.run(
        ["node", "ask.mjs", grounded.url, facts[0].question],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    found: dict[str, Any] = json.loads(printed.stdout)
    assert found["text"] == found["whole"]
    assert found["citations"] == found["wholeCitations"]
    assert found["answeredBy"] == "generator"
    assert "kb" in found["models"]
    assert found["width"] == 384
    assert found["error"] == {"status": 404, "code": "model_not_found"}
