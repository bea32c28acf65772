"""The start of a chart as SVG, with colors for light and dark pages."""

_STYLE = """<style>
.paper { fill: #fff; }
text { fill: #1f2328; }
.axis, .grid, .curve { fill: none; }
.axis { stroke: #57606a; }
.grid { stroke: #d8dee4; }
.curve { stroke-width: 2; }
.gray { stroke: #8c959f; }
.red { stroke: #cf222e; }
.blue { stroke: #218bff; }
.ink { stroke: #1f2328; }
.green { stroke: #2da44e; }
.own { fill: #218bff; }
.other { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; }
  text { fill: #e6edf3; }
  .axis { stroke: #8b949e; }
  .grid { stroke: #30363d; }
  .red { stroke: #ff7b72; }
  .ink { stroke: #e6edf3; }
  .green { stroke: #3fb950; }
}
</style>"""


def opening(width: int, height: int, font_size: int) -> str:
    """Return the opening tag, the style, and the background."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' font-family="sans-serif" font-size="{font_size}">\n{_STYLE}\n'
        f'<rect width="{width}" height="{height}" class="paper"/>'
    )
