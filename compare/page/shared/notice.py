"""A line at the top of the page while the model's thread, or the server, is not well.

notice.js asks `/health`, so that a page that was opened before says it too. The states are those of
compare/engine/model_thread.py.
"""

from __future__ import annotations

import json

from compare.engine.model_thread import ENDED
from compare.page.shared.html import read
from compare.page.shared.words import Words

CLOSE = Words("知道了", "Got it")
RESTARTED = Words("模型线程中断过一次，已经重新启动；没答完的问题会接着答。",
                  "The model's thread died once and was restarted; questions under way go on.")
DOWN = Words("模型线程两次中断，这里不能再回答。请管理员看日志并重新启动程序。",
             "The model's thread died twice, so nothing can be answered here. Whoever runs this page: the log says "
             "why; start the program anew.")
AWAY = Words("连不上服务器，正在重试。", "The server cannot be reached; trying again.")


def paragraph(words: Words, grave: bool) -> str:
    """One state's line, escaped; a grave one cannot be closed."""
    button = "" if grave else f'<button type="button">{CLOSE.html()}</button>'
    return f"<p{' data-grave' if grave else ''}>{words.html()}{button}</p>"


STATES = {"restarted": paragraph(RESTARTED, False), ENDED: paragraph(DOWN, True), "away": paragraph(AWAY, True)}


def head() -> str:
    """Style and script for the page's head."""
    states = json.dumps(STATES, ensure_ascii=False).replace("</", "<\\/")  # an end tag would end the script
    return (f"<style>{read('shared/notice.css')}</style>"
            f"<script>(() => {{ const STATES = {states};\n{read('shared/notice.js')} }})();</script>")
