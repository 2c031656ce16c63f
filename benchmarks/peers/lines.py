"""Lines of rendered text, for the scripts about recognisers: black on white, in turns in two fonts."""
import os
from pathlib import Path

from common import need

SENTENCES = Path(__file__).resolve().parents[2] / "java/cli/src/main/resources/dev/tensorpress/cli/sentences.txt"
FOLDER = "/usr/share/fonts/truetype"
FONTS = ["dejavu/DejaVuSans.ttf", "liberation/LiberationSerif-Regular.ttf"]
HEIGHT = 48
CHARACTERS = 32


def beginning(sentence, characters):
    """As many whole words as a line takes."""
    line = ""
    for word in sentence.split():
        longer = f"{line} {word}".strip()
        if len(longer) > characters:
            break
        line = longer
    return line


def render(sentences, folder=FOLDER, characters=CHARACTERS):
    """The beginnings of sentences, and an image of each: 1 x 3 x 48 x width, from -1 to 1."""
    np, image, draw, font = need("numpy", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont")
    fonts = [font.truetype(os.path.join(folder, file), 30) for file in FONTS]
    texts = [line for line in (beginning(s, characters) for s in sentences) if line]
    images = []
    for i, line in enumerate(texts):
        left, top, right, bottom = fonts[i % 2].getbbox(line)
        canvas = image.new("RGB", (right - left + 16, HEIGHT), "white")
        draw.Draw(canvas).text((8 - left, (HEIGHT - bottom - top) // 2), line, fill="black", font=fonts[i % 2])
        images.append((np.asarray(canvas, np.float32).transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5)
    return texts, images
