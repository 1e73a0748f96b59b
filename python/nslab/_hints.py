def explain(error): pass
