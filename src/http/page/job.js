live({ title: address.last(), heading: address.last(), refresh: () => readStatus(), view: () => null });
