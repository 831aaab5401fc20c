from scipy.stats import rankdata


def diverse_order(acquired, novelty, diversity):
    return (1 - diversity) * rankdata(acquired) + diversity * rankdata(novelty)
