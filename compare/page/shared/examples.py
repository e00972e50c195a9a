"""Questions to click on, in groups, and the chips that show them."""

from __future__ import annotations

from html import escape

from compare.page.shared.words import Words

GROUPS = {
    Words("校训", "Motto"): [
        Words("哈尔滨工业大学的校训是什么？", "What is HIT's motto?"),
        Words("规格严格的下一句是什么？", "What follows “规格严格”?")],
    Words("校史", "History"): [
        Words("哈尔滨工业大学是何时建立的？", "When was HIT founded?"),
        Words("哈工大首任校长是谁？", "Who was its first president?"),
        Words("什么是哈工大八百壮士？", "Who were the “800 heroes”?")],
    Words("航天", "Space"): [
        Words("紫丁香二号卫星有多重", "How heavy is the satellite Lilac-2?"),
        Words("龙江二号什么时候撞月的？", "When did Longjiang-2 hit the Moon?")],
    Words("学院", "Schools"): [
        Words("哈工大航天学院什么时候成立的？", "When was the School of Astronautics founded?"),
        Words("哈工大能源方面的学院叫什么？", "What is its school of energy called?")],
    Words("它不知道的", "What it cannot know"): [
        Words("清华大学的校训是什么？", "What is Tsinghua's motto?"),
        Words("今天天气怎么样？", "How is the weather today?")],
}


def chip(question: str, gloss: str = "") -> str:
    """A button that names its question in `data-question`; the gloss is for those who read English."""
    more = f'<small class="lang-en" lang="en">{escape(gloss)}</small>' if gloss else ""
    return (f'<button type="button" class="lens-chip" data-question="{escape(question)}">'
            f'<span lang="zh-CN">{escape(question)}</span>{more}</button>')


def chips() -> str:
    """The groups as HTML."""
    groups = []
    for name, questions in GROUPS.items():
        buttons = "".join(chip(question.zh, question.en) for question in questions)
        groups.append(f'<div class="lens-group" role="group" aria-label="{escape(name.text())}">'
                      f'<span class="lens-group-name">{name.html()}</span>{buttons}</div>')
    return f'<div class="lens-chips">{"".join(groups)}</div>'
