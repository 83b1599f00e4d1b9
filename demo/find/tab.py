from __future__ import annotations

import gradio as gr

from demo.server import Server


class FindTab:
    def edit_leads_to(self, tabs, edited):
        pass


def add(server: Server) -> FindTab:
    out = gr.HTML("<b>hello</b>")
    t = gr.Textbox(label="Words")

    async def find(text):
        async with server.client() as client:
            result = await client.match(texts=text)
        return "".join(f"<p>{m.product_id}</p>" for m in result.matches)

    t.submit(find, t, out)
    return FindTab()
