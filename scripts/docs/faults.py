class Fault(Exception):
    """What is wrong with the pages, for whoever wrote them."""


def say(text):
    print(f"docs: {text}", flush=True)
