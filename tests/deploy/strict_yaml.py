"""YAML as Kubernetes takes it."""

import yaml


class Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML would take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


# PyYAML knows a bare `=` by a type that it cannot make.
Loader.add_constructor("tag:yaml.org,2002:value", Loader.construct_yaml_str)
