"""How near an embedder puts a question to sentences that have nothing to do with it.

Cosines have no fixed meaning: one model gives unrelated texts .1, another .75, and across
languages all are lower. What tells is how much nearer the best sentence is than unrelated ones in
its own language. That is measured on these sentences, in every answer.
"""

from typing import Final

import numpy as np

from kb.ports import Embedder
from kb.types import Vector, Vectors

NEAREST: Final = 4
"""Of the unrelated sentences the nearest few count: what chance brings near the question."""

UNRELATED: Final = {
    "en": (
        "The museum opens at nine and closes at five on weekdays.",
        "Water boils at a lower temperature high in the mountains.",
        "The committee approved the budget after a long debate.",
        "Restart the service after changing the configuration file.",
        "She learned to play the violin when she was six years old.",
        "The contract may be ended by either party with three months' notice.",
        "Add the onions and cook them slowly until they are soft.",
        "The train from the coast arrives twice a day.",
        "Patients should take the medicine with food.",
        "The castle was built in the thirteenth century by a local duke.",
        "The function returns an error when the input is empty.",
        "Prices rose by four percent last year.",
        "Birds of this species build their nests close to rivers.",
        "The team won the final by two goals to one.",
        "Each request must carry a valid token in its header.",
        "The novel tells the story of a family over three generations.",
        "The factory employs about two hundred people.",
        "Earthquakes are common along this part of the coast.",
        "Students must hand in their essays before the end of the month.",
        "The bridge is four hundred metres long and carries two railway lines.",
        "The king was succeeded by his younger brother.",
        "Light travels faster through air than through glass.",
        "The company sells its products in more than thirty countries.",
        "Most of the villagers live on fishing and farming.",
    ),
    "zh": (
        "博物馆工作日上午九点开门，下午五点关门。",
        "在高山上，水在较低的温度下就会沸腾。",
        "经过长时间的讨论，委员会批准了预算。",
        "修改配置文件后需要重新启动服务。",
        "她六岁时开始学习小提琴。",
        "任何一方提前三个月通知即可终止合同。",
        "放入洋葱，用小火慢慢炒软。",
        "从海边来的火车每天到达两次。",
        "患者应在饭后服用这种药物。",
        "这座城堡由当地的公爵建于十三世纪。",
        "输入为空时，函数返回一个错误。",
        "去年物价上涨了百分之四。",
        "这种鸟类在河边筑巢。",
        "该队在决赛中以二比一获胜。",
        "每个请求的头部都必须带有有效的令牌。",
        "这部小说讲述了一个家族三代人的故事。",
        "这家工厂大约有两百名员工。",
        "这一带沿海经常发生地震。",
        "学生必须在月底之前交论文。",
        "这座桥长四百米，有两条铁路线通过。",
        "国王去世后由他的弟弟继位。",
        "光在空气中的传播速度比在玻璃中快。",
        "该公司的产品销往三十多个国家。",
        "大多数村民以捕鱼和种田为生。",
    ),
}

# The sentences never change, so each embedder embeds them once in a process's life (0.3 s).
_vectors: dict[tuple[str, str], Vectors] = {}


async def unrelated_similarity(question: Vector, language: str, embedder: Embedder) -> float:
    """The mean cosine of a question and the NEAREST unrelated sentences of a language.

    `question` is the question's vector as the same embedder's `queries` gave it.
    """
    key = (embedder.fingerprint, language)
    if key not in _vectors:
        _vectors[key] = await embedder.queries(UNRELATED[language])
    similarities = np.sort(_vectors[key] @ question)
    return float(similarities[-NEAREST:].mean())
