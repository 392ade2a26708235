live({ title: `User ${address.last()}`, heading: `User ${address.last()}`, refresh: () => readStatus(), view: () => null });
